from __future__ import annotations

import pytest
import torch

from models.optimisation import core_left_to_data


@pytest.mark.parametrize(("threads", "left"), [(3, 2), (1, 1)])
def test_a_core_is_left_to_data_while_training_and_given_back_after(threads: int, left: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with core_left_to_data():
            assert torch.get_num_threads() == left
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

"""A weights file that would run something when it is read is refused, and nothing runs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.checkpoint import read_state
from models.encoder_weights import load_encoder_weights
from models.refsel import CheckpointError
from models.weights_file import read_tensors


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def by_torch(path: Path, trap: Trap) -> None:
    torch.save({"weight": trap}, path)


def by_pickle(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps({"weight": trap}))


@pytest.mark.parametrize("write", [by_torch, by_pickle])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_weights_file_that_would_run_something_is_refused(
    tmp_path: Path, write: Callable[[Path, Trap], None], suffix: str
) -> None:
    ran = tmp_path / "ran"
    path = tmp_path / f"weights{suffix}"
    write(path, Trap(ran))
    for read, error in (
        (read_state, CheckpointError),
        (read_tensors, CheckpointError),
        (lambda file: load_encoder_weights("resnet18", str(file)), ValueError),
    ):
        with pytest.raises(error, match="cannot be read"):
            read(path)
        assert not ran.exists()

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from models.inference import margins, predict, resized
from models.refsel import Comparison, RefSel, RefSelConfig


def picture(seed: int, side: int = 512) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def small_model(side: int | None, comparison: Comparison = Comparison.SIAMESE) -> RefSel:
    torch.manual_seed(0)
    config = RefSelConfig(
        encoder="tu-test_resnet",
        decoder_channels=(16, 16, 8, 8, 8),
        working_size=side,
        comparison=comparison,
    )
    return RefSel(config).eval().to(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [64, 128, 96, 512])
def test_images_are_resized_as_the_model_would(side):
    model = small_model(side)
    gts, references = [picture(0), picture(1)], [picture(2), picture(3)]
    whole = predict(model, gts, references)
    small = margins(model, [resized(i, side) for i in gts], [resized(i, side) for i in references])
    for expected, margin in zip(whole, small, strict=True):
        p = 1 / (1 + np.exp(-cv2.resize(margin, (512, 512), interpolation=cv2.INTER_LINEAR)))
        assert np.abs(p - expected).mean() < 0.004
        assert ((p > 0.5) != (expected > 0.5)).mean() < 0.03


@pytest.mark.parametrize("comparison", list(Comparison))
@pytest.mark.parametrize("precision", ["as the device has it", "float32"])
def test_a_pair_has_the_same_margins_beside_whatever_other_pairs(
    comparison, precision, monkeypatch
):
    if precision == "float32":
        monkeypatch.setattr("models.optimisation.bf16_supported", lambda _: False)
    model = small_model(64, comparison)
    firsts, references = [picture(n, 64) for n in range(8)], [picture(n + 9, 64) for n in range(8)]
    alone = {}
    for chosen in ([0, 1, 2, 3], [4, 5, 6, 7], [3, 0, 7, 5], [7, 7, 7, 7], [2, 6, 1, 0]):
        found = margins(model, [firsts[n] for n in chosen], [references[n] for n in chosen])
        assert found.shape == (4, 64, 64)
        assert found.dtype == np.float32
        for number, margin in zip(chosen, found, strict=True):
            assert np.array_equal(alone.setdefault(number, margin), margin)
    assert not np.array_equal(alone[0], alone[1])

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

from models.exported import load_exported
from models.inference import margins
from models.refsel import CheckpointError, RefSel, RefSelConfig

SIDE = 64


def batch(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """References with a bright square that their ground truths lack, or have; and where it is."""
    random = np.random.default_rng(seed)
    images = [
        cv2.resize(random.integers(60, 160, (5, 5, 3), dtype=np.uint8), (SIDE, SIDE))
        for _ in range(8)
    ]
    references = [image.copy() for image in images[:4]]
    for image in references:
        x, y = random.integers(4, SIDE - 24, 2)
        image[y : y + 20, x : x + 20] = 250
    return images[:4], references


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RefSel that has learnt, in a few steps, to tell the square."""
    torch.manual_seed(0)
    model = RefSel(
        RefSelConfig(
            encoder="tu-test_resnet", decoder_channels=(16, 16, 8, 8, 8), working_size=SIDE
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(40):
        gts, references = (
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 for images in batch(step)
        )
        same = (gts - references).abs().sum(1) < 0.2
        loss = torch.nn.functional.cross_entropy(model(gts, references), same.long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    made = tmp_path_factory.mktemp("model")
    model.save_pretrained(made)
    return made


def test_the_exported_model_answers_as_pytorch_does(folder):
    model, exported = RefSel.from_pretrained(folder), load_exported(folder, 4)
    assert exported.config == model.config
    for seed in range(100, 104):
        gts, references = batch(seed)
        expected, found = margins(model, gts, references), exported.margins(gts, references)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert (expected > 0).any()
        assert (expected < 0).any()
        # both may be in bfloat16, which has eight bits
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()
        assert ((found > 0) != (expected > 0)).mean() < 0.005


def test_a_pair_has_the_same_margins_beside_whatever_other_pairs(folder):
    exported = load_exported(folder, 4)
    gts, references = batch(7)
    first = exported.margins(gts, references)
    order = [2, 0, 3, 3]
    again = exported.margins([gts[n] for n in order], [references[n] for n in order])
    assert all(np.array_equal(again[place], first[n]) for place, n in enumerate(order))


def test_the_export_is_kept_for_the_same_weights_alone(folder):
    load_exported(folder, 2)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("openvino-*/*")}
    exports = len(list(folder.glob("openvino-*")))
    load_exported(folder, 2)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("openvino-*/*")} == kept
    model = RefSel.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    model.save_pretrained(folder)
    load_exported(folder, 2)
    assert len(list(folder.glob("openvino-*"))) == exports + 1
    assert not list(folder.glob(".exporting-*"))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        load_exported(tmp_path, 4)

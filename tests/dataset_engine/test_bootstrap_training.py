from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dataset_engine.bootstrap_training import (
    STATE_NAME,
    BootstrapSettings,
    score_pairs,
    train_bootstrap,
)
from dataset_engine.shards.augmentation import AugmentationSettings, TrainingPair
from models.checkpoint import CheckpointError
from models.refsel import FirstInput, RefSel, RefSelConfig

SETTINGS = BootstrapSettings(
    steps=6,
    batch_size=2,
    checkpoint_every=2,
    workers=0,
    model=RefSelConfig(
        encoder="tu-test_resnet",
        decoder_channels=(8, 8, 8, 8, 8),
        working_size=32,
        data_version="test",
    ),
)


class Discs:
    """A stand-in for faces: a disc of skin, in some references with a dark conflict on it."""

    def __init__(self, count: int, seed: int, side: int = 64) -> None:
        self.count, self.seed, self.side = count, seed, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> TrainingPair:
        rng = np.random.default_rng([self.seed, index])
        side = self.side
        skin = rng.integers(120, 200, 3)
        face = np.zeros((side, side), np.uint8)
        cv2.circle(face, (side // 2, side // 2), int(side * 0.4), 1, -1)
        spot = np.zeros_like(face)
        at = [int(v) for v in rng.integers(side * 0.35, side * 0.65, 2)]
        cv2.circle(spot, at, int(side * 0.15), 1, -1)
        gt = np.where(face[..., None] > 0, skin, 30).astype(np.uint8)
        reference = np.where(spot[..., None] > 0, 60, gt).astype(np.uint8)
        same = rng.random() < 0.3
        region = face > 0
        mask = region if same else region & (spot == 0)
        return TrainingPair(gt, gt.copy() if same else reference, mask, region)


def test_an_interrupted_training_goes_on_with_the_same_losses(tmp_path: Path):
    train, held_out = Discs(5, seed=0), Discs(3, seed=1)
    whole = train_bootstrap(train, held_out, tmp_path / "whole", SETTINGS)

    def stop_at_five(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_bootstrap(train, held_out, tmp_path / "cut", SETTINGS, progress=stop_at_five)
    resumed = train_bootstrap(train, held_out, tmp_path / "cut", replace(SETTINGS, workers=2))
    assert resumed.resumed_from == 4
    assert resumed.losses == whole.losses
    assert resumed.scores == whole.scores
    same = (tmp_path / "whole/model/model.safetensors").read_bytes()
    assert (tmp_path / "cut/model/model.safetensors").read_bytes() == same


def test_other_data_or_settings_start_anew(tmp_path: Path):
    held_out = Discs(2, seed=1)
    short = replace(SETTINGS, steps=2)
    train_bootstrap(Discs(5, seed=0), held_out, tmp_path, short)
    assert train_bootstrap(Discs(5, seed=0), held_out, tmp_path, short).resumed_from == 2
    assert train_bootstrap(Discs(6, seed=0), held_out, tmp_path, short).resumed_from == 0
    other = replace(short, seed=1)
    assert train_bootstrap(Discs(6, seed=0), held_out, tmp_path, other).resumed_from == 0


def test_a_broken_state_is_named(tmp_path: Path):
    (tmp_path / STATE_NAME).write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read"):
        train_bootstrap(Discs(2, seed=0), Discs(1, seed=1), tmp_path, SETTINGS)


def test_nothing_to_train_on_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="no reviewed pairs"):
        train_bootstrap(Discs(0, seed=0), Discs(1, seed=1), tmp_path, SETTINGS)


def test_a_round_can_start_from_the_one_before(tmp_path: Path):
    train, held_out = Discs(4, seed=0), Discs(2, seed=1)
    short = replace(SETTINGS, steps=2, learning_rate=0.0)
    first = train_bootstrap(train, held_out, tmp_path / "0", SETTINGS)
    second = train_bootstrap(train, held_out, tmp_path / "1", short, start_from=first.model)
    before, after = RefSel.from_pretrained(first.model), RefSel.from_pretrained(second.model)
    assert after.config.first_input is FirstInput.GROUND_TRUTH
    weight = "blocks.0.conv1.0.weight"
    assert torch.allclose(
        before.unet.decoder.state_dict()[weight], after.unet.decoder.state_dict()[weight]
    )


@pytest.mark.slow
def test_it_learns_to_find_conflicts_that_all_ones_cannot(tmp_path: Path):
    settings = replace(
        SETTINGS,
        steps=200,
        batch_size=8,
        workers=1,
        model=replace(SETTINGS.model, working_size=64),
        augmentation=AugmentationSettings(transplant_share=0.0),
    )
    seen: list[int] = []
    report = train_bootstrap(
        Discs(24, seed=0), Discs(16, seed=1), tmp_path, settings, progress=seen.append
    )
    assert seen == list(range(201))
    assert report.scores.pairs == 16
    assert report.scores.iou > report.all_ones.iou
    assert report.scores.conflict_recall >= 0.5
    assert report.all_ones.conflict_recall == 0.0
    model = RefSel.from_pretrained(report.model)
    assert len(score_pairs(model, Discs(3, seed=2), batch_size=2)) == 3

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dataset_engine.shards.reader import RefSelSample
from dataset_engine.taxonomy import Conflict
from models.checkpoint import CheckpointError
from models.refsel import FirstInput, RefSel, RefSelConfig
from restoration.refsel_config import RefSelTraining
from restoration.refsel_training import train_refsel

TINY = RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)
SETTINGS = RefSelTraining(
    steps=4,
    batch_size=1,
    accumulate=2,
    validate_every=3,
    checkpoint_every=2,
    pictures=1,
    workers=0,
    clean_steps=3,
    model=TINY,
)


class Discs:
    """A stand-in for shards: discs of skin, with a dark mouth in some references alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> RefSelSample:
        rng = np.random.default_rng([self.seed, index])
        region, mouth = np.zeros((512, 512), np.uint8), np.zeros((512, 512), np.uint8)
        cv2.circle(region, (256, 256), 200, 1, -1)
        cv2.ellipse(mouth, (256, 330), (120, 80), 0, 0, 360, 1, -1)
        gt = np.where(region[..., None] > 0, rng.integers(120, 220, 3), 40).astype(np.uint8)
        noise = rng.integers(-30, 30, (512, 512, 1))
        gt = np.clip(gt + noise, 0, 255).astype(np.uint8)
        conflicting = index % 2 == 0
        reference = np.where(mouth[..., None] > 0, 20, gt).astype(np.uint8) if conflicting else gt
        mask = (region > 0) & ~(conflicting & (mouth > 0))
        conflicts = (Conflict.MOUTH,) if conflicting else ()
        name = f"disc-{index}"
        return RefSelSample(gt, reference, mask, region > 0, region > 0, name, name, conflicts)


def _train(folder: Path, settings: RefSelTraining = SETTINGS, **others):
    arguments = {"bootstrap": None, "data_version": "v001"} | others
    return train_refsel(Discs(4, 0), Discs(2, 1), folder, settings, **arguments)


def test_a_killed_and_resumed_run_gives_the_losses_of_one_that_was_not(tmp_path: Path):
    whole = _train(tmp_path / "whole")

    def kill(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", progress=kill)
    resumed = _train(tmp_path / "cut", replace(SETTINGS, workers=2))
    assert resumed.resumed_from == 2
    assert len(whole.losses) == 4
    assert resumed.losses == whole.losses
    assert resumed.evaluation == whole.evaluation
    for name in ("best", "last"):
        weights = (tmp_path / "whole" / name / "model.safetensors").read_bytes()
        assert (tmp_path / "cut" / name / "model.safetensors").read_bytes() == weights


def test_the_saved_models_say_what_they_are(tmp_path: Path):
    report = _train(tmp_path, replace(SETTINGS, steps=1, accumulate=1))
    best, last = RefSel.from_pretrained(report.best), RefSel.from_pretrained(report.last)
    assert best.config.first_input is FirstInput.DEGRADED
    assert best.config.data_version == last.config.data_version == "v001"
    assert report.evaluation.threshold == best.config.threshold
    events = list((tmp_path / "tensorboard").glob("events*"))
    assert events
    assert b"validation/GT, input, reference, M, p" in events[0].read_bytes()


def test_it_starts_from_the_bootstrap_weights(tmp_path: Path):
    torch.manual_seed(5)
    bootstrap = RefSel(replace(TINY, working_size=96))
    bootstrap.save_pretrained(tmp_path / "bootstrap")
    settings = replace(SETTINGS, steps=1, accumulate=1, learning_rate=1e-12)
    report = _train(tmp_path / "run", settings, bootstrap=tmp_path / "bootstrap")
    last = RefSel.from_pretrained(report.last)
    assert last.config.working_size == 96
    assert "bootstrap" in report.note
    ours, theirs = last.unet.decoder.state_dict(), bootstrap.unet.decoder.state_dict()
    weight = "blocks.0.conv1.0.weight"
    assert torch.allclose(ours[weight], theirs[weight], atol=1e-6)


def test_other_settings_or_data_start_anew(tmp_path: Path):
    settings = replace(SETTINGS, steps=2, accumulate=1, validate_every=9)
    _train(tmp_path, settings)
    assert _train(tmp_path, settings).resumed_from == 2
    assert _train(tmp_path, settings, data_version="v002").resumed_from == 0
    assert _train(tmp_path, replace(settings, seed=1)).resumed_from == 0


def test_a_broken_state_is_named(tmp_path: Path):
    (tmp_path / "training.pt").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read"):
        _train(tmp_path)


def test_an_empty_split_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="0 training and 2 validation"):
        train_refsel(
            Discs(0, 0), Discs(2, 1), tmp_path, SETTINGS, bootstrap=None, data_version="v001"
        )


@pytest.mark.slow
def test_it_learns_to_drop_the_conflict(tmp_path: Path):
    settings = replace(
        SETTINGS,
        steps=100,
        batch_size=4,
        accumulate=1,
        validate_every=100,
        checkpoint_every=100,
        ema_decay=0.9,
        model=replace(TINY, working_size=64),
    )
    report = train_refsel(
        Discs(8, 0), Discs(4, 1), tmp_path, settings, bootstrap=None, data_version="v001"
    )
    everything = report.evaluation.everything
    assert everything.scores.conflict_recall > 0.5
    assert everything.scores.conflict_iou > 0.3
    assert everything.all_ones.conflict_iou == 0.0

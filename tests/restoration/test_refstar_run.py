from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from models.pipeline import RefStarPipeline
from models.refsel import CheckpointError
from models.restorer import Phase
from restoration.refstar_config import Backbone, read_refstar
from restoration.refstar_run import train_restoration

SCRIPT = """
import json, sys
import torch.distributed
from pathlib import Path
import models.backbones
from models.restorer import Phase
from restoration.refstar_config import read_refstar
from restoration.refstar_run import train_restoration

# Where much begins at exactly 0, Adam makes steps of what is left of gradients after rounding, and two
# processes round otherwise than one.
models.backbones.start_near_identity = lambda unet: None
config, faces, out, refsel = map(Path, sys.argv[1:])
losses = {}
for phase in Phase:
    report = train_restoration(
        read_refstar(config), phase, faces, out, weights=out, refsel=refsel
    )
    losses[int(phase)] = report.losses
    if report.scores is not None:
        if torch.distributed.is_initialized():
            losses["processes"] = torch.distributed.get_world_size()
            losses["backend"] = torch.distributed.get_backend()
        (out / "losses.json").write_text(json.dumps(losses))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for identity in range(4):
        (tmp_path / "faces" / f"{identity}").mkdir(parents=True)
        for image in range(2):
            blotches = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((64, 64, 1)))
            path = tmp_path / "faces" / f"{identity}" / f"{image}.png"
            cv2.imwrite(str(path), blotches.astype(np.uint8))
    return tmp_path / "faces"


def test_the_three_phases_follow_each_other_from_a_folder_to_a_pipeline(
    refstar_settings, folder, refsel_folder, tmp_path
):
    def train(phase, **others):
        return train_restoration(
            refstar_settings, phase, folder, tmp_path / "out", weights=tmp_path, **others
        )

    with pytest.raises(ValueError, match="train Phase 1 first"):
        train(Phase.TWO)
    train(Phase.ONE)
    with pytest.raises(ValueError, match="needs a trained RefSel"):
        train(Phase.TWO)
    train(Phase.TWO, refsel=refsel_folder)
    report = train(Phase.THREE)
    assert report.resumed_from == 0
    assert len(report.losses) == 4
    written = json.loads((tmp_path / "out" / "phase-3" / "report.json").read_text())
    assert written["face PSNR"]["full"] == report.scores.full
    assert (written["steps"], written["set aside"]) == (4, {})
    pipeline = RefStarPipeline.from_pretrained(report.best)
    face = np.full((32, 32, 3), 90, np.uint8)
    assert pipeline(face, face).shape == (32, 32, 3)
    assert (tmp_path / "out" / "phase-3" / "discriminator.safetensors").is_file()
    # Done is done: nothing is left to do, and the same comes out.
    again = train(Phase.THREE, resume=True)
    assert (again.resumed_from, again.losses) == (4, report.losses)
    assert again.scores == report.scores


def test_a_phase_of_another_restorer_or_phase_before_is_refused(
    refstar_settings, folder, refsel_folder, tmp_path
):
    def train(phase, settings=refstar_settings, **others):
        return train_restoration(
            settings, phase, folder, tmp_path / "out", weights=tmp_path, **others
        )

    train(Phase.ONE)
    other = replace(refstar_settings, restorer=replace(refstar_settings.restorer, timestep=100))
    with pytest.raises(ValueError, match="other settings of the restorer"):
        train(Phase.TWO, other, refsel=refsel_folder)
    train(Phase.TWO, refsel=refsel_folder)
    report = tmp_path / "out" / "phase-1" / "report.json"
    report.write_text(report.read_text() + " ")
    with pytest.raises(ValueError, match="another origin"):
        train(Phase.TWO, refsel=refsel_folder, resume=True)


def test_missing_weights_are_one_error_before_anything_is_opened(
    refstar_settings, folder, tmp_path
):
    settings = replace(refstar_settings, backbone=Backbone.ARC2FACE)
    with pytest.raises(CheckpointError, match=r"arcface\.onnx: missing"):
        train_restoration(
            settings, Phase.ONE, tmp_path / "nowhere", tmp_path / "out", weights=tmp_path
        )
    assert not (tmp_path / "out").exists()


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_with_twice_the_batch(
    refstar_settings, folder, refsel_folder, tmp_path
):
    losses = {}
    (tmp_path / "train.py").write_text(SCRIPT)
    for processes in (1, 2):
        training = replace(refstar_settings.phase_one, batch_size=2 // processes, steps=3)
        phases = dict.fromkeys(("phase_one", "phase_two", "phase_three"), training)
        config, out = tmp_path / f"{processes}.yaml", tmp_path / f"out-{processes}"
        config.write_text(yaml.safe_dump(_plain(asdict(replace(refstar_settings, **phases)))))
        read_refstar(config)
        out.mkdir()
        given = [tmp_path / "train.py", config, folder, out, refsel_folder]
        # accelerate's own --cpu starts several processes through MPI alone; this way it is gloo.
        launch = ["-m", "accelerate.commands.launch", "--num_machines", "1", "--multi_gpu"]
        launch += ["--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["--main_process_port", "0"]
        finished = subprocess.run(
            [sys.executable, *(launch if processes == 2 else []), *map(str, given)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        losses[processes] = json.loads((out / "losses.json").read_text())
    assert (losses[2].pop("processes"), losses[2].pop("backend")) == (2, "gloo")
    assert losses[1].keys() == losses[2].keys() == {"1", "2", "3"}
    for phase in ("1", "2", "3"):
        assert losses[2][phase] == pytest.approx(losses[1][phase], rel=1e-4)
        assert len(set(losses[1][phase])) == 3

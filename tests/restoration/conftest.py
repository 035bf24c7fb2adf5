"""What the tests of RefSTAR's training share: faces of 64 px and networks of 32 px."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from models.backbones import TinyBackbone
from models.lora import LoraSettings
from models.refsel import FirstInput, RefSel, RefSelConfig
from models.restorer import Phase, RestorerConfig
from restoration.losses import CycleWeights, GroundTruthWeights, LossWeights
from restoration.refstar_config import (
    Backbone,
    FaceData,
    MaskSource,
    Optimisation,
    PhaseTraining,
    RefStarTraining,
)
from restoration.refstar_data import FacePair
from restoration.refstar_faces import Faces
from restoration.refstar_folders import SetAsideFiles
from restoration.refstar_networks import Networks, open_networks
from restoration.refstar_session import Place, Session


class Blobs:
    """A stand-in for a source: blotches that truth and reference share, under different light."""

    annotated = True

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def pair(self, index: int, seed: int) -> FacePair:
        rng = np.random.default_rng([self.seed, index])
        blotches = np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        light = int(np.random.default_rng([seed, 9]).integers(0, 40))
        region = np.zeros((64, 64), np.bool_)
        region[8:56, 8:56] = True
        mask = region.copy()
        mask[40:] = False
        reference = (blotches + light).astype(np.uint8)
        return FacePair(blotches, reference, region, mask, region)


PHASE = PhaseTraining(
    steps=4,
    batch_size=2,
    learning_rate=1e-3,
    validate_every=2,
    checkpoint_every=2,
)
SETTINGS = RefStarTraining(
    backbone=Backbone.TINY,
    tiny=TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8),
    restorer=RestorerConfig(timestep=250, lora=LoraSettings(rank=2)),
    losses=LossWeights(
        in_ground_truth=GroundTruthWeights(perceptual=0, identity=0),
        in_cycle=CycleWeights(perceptual=0, identity=0),
    ),
    discriminator_width=8,
    data=FaceData(size=32, mask=MaskSource.REFSEL, workers=0),
    optimisation=Optimisation(bf16=False),
    phase_one=PHASE,
    phase_two=PHASE,
    phase_three=PHASE,
    validation_faces=2,
    pictures=1,
)


@pytest.fixture(autouse=True)
def own_processes() -> Iterator[None]:
    """accelerate keeps precision for a whole process, and tests want several."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def refstar_settings() -> RefStarTraining:
    """All phases at 32 px, with a discriminator and adapters."""
    return SETTINGS


@pytest.fixture
def refstar_faces() -> Faces:
    """Six training and three validation pairs."""
    return Faces(Blobs(6, 0), Blobs(3, 1), "blobs", SetAsideFiles())


@pytest.fixture
def refsel_folder(tmp_path: Path) -> Path:
    """An untrained RefSel."""
    config = RefSelConfig(
        encoder="tu-test_resnet",
        decoder_channels=(8, 8, 8, 8, 8),
        working_size=32,
        first_input=FirstInput.DEGRADED,
    )
    chooser = RefSel(config)
    with torch.no_grad():  # untrained, it would keep nothing of the reference
        chooser.unet.segmentation_head[0].bias.copy_(torch.tensor([2.0, -2.0]))
    chooser.save_pretrained(tmp_path / "refsel")
    return tmp_path / "refsel"


@pytest.fixture
def open_session(
    refstar_faces: Faces, refsel_folder: Path, tmp_path: Path
) -> Callable[..., Session]:
    """Sessions of any phase in `out`; a phase before that is not there is stood in for."""

    def open_one(
        phase: Phase,
        settings: RefStarTraining = SETTINGS,
        *,
        out: str = "run",
        resume: bool = False,
        networks: Networks | None = None,
        **changes: Any,
    ) -> Session:
        settings = replace(settings, **changes)
        start = None
        if phase is not Phase.ONE:
            start = tmp_path / f"before-{int(phase)}"
            if not start.exists():
                first = open_networks(
                    replace(settings, seed=1), Phase.ONE, weights=tmp_path, start=None
                )
                if phase is Phase.THREE:
                    first.pipeline.restorer.add_reference()
                    for projection in first.pipeline.restorer.reference_attention.values():
                        projection.to_out.weight.data.normal_(std=0.2)
                first.pipeline.save_pretrained(start / "best")
        if networks is None:
            networks = open_networks(
                settings, phase, weights=tmp_path, start=start, refsel=refsel_folder
            )
        place = Place(tmp_path / out / f"phase-{int(phase)}", resume)
        return Session(settings, phase, networks, refstar_faces, place)

    return open_one

"""How RefSTAR is trained: one dataclass, readable from YAML, with the paper's numbers as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from models.backbones import TinyBackbone
from models.restorer import Phase, RestorerConfig
from restoration.losses import LossWeights
from restoration.yaml_settings import read_fields, validated

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

PRESETS: Final = Path(__file__).parent / "configs"
"""The presets that come with the project."""


class Backbone(StrEnum):
    """Where UNet, autoencoder and prompt come from."""

    TINY = "tiny"
    """From scratch, on rearranged pixels; needs no weights."""
    STABLE_DIFFUSION = "stable-diffusion"
    """A plain Stable Diffusion 1.5: one prompt for everybody."""
    ARC2FACE = "arc2face"
    """The paper's: Arc2Face's UNet, and a prompt that says who the person is."""


class MaskSource(StrEnum):
    """Who chooses M in Phase II."""

    REFSEL = "refsel"
    """The frozen RefSel, as in the paper; it chooses the cycle pass's mask too."""
    ANNOTATED = "annotated"
    """The reviewed mask of RefSel-HQ shards, to train the transfer apart from the selection. The
    cycle pass takes what of it lies in the ground truth's face region: aligned faces lie over each
    other."""


class Rate(StrEnum):
    """How the learning rate goes over a phase."""

    CONSTANT = "constant"
    """The paper names no other."""
    COSINE = "cosine"
    """A tenth of the steps to warm up, then half a cosine to 0."""


@dataclass(frozen=True)
class WeightPaths:
    """Where in the weights folder each network's files lie; `engine weights` lists them."""

    unet: str = "arc2face"
    vae: str = "stable-diffusion-v1-5/vae"
    text_encoder: str = "encoder"
    tokenizer: str = "stable-diffusion-v1-5/tokenizer"
    arcface: str = "arcface.onnx"
    identity: str = "arcface-r50/backbone.pth"
    identity_depth: int = 50
    vgg19: str = "vgg19-dcbb9e9d.pth"


@dataclass(frozen=True)
class FaceData:
    """What the networks see.

    Photographs of 512 px are degraded at their own size and then shrunk to `size` by area. Of
    identity folders the share `validation` of the identities, at least one, is kept for validation;
    shards bring their splits. With `variants` each ground truth gets so many degradations, made once
    and kept in memory (about 14 * size**2 bytes each), in place of new ones for ever: for tiny
    presets, whose steps would cost less than the degradation. `clean` is the share of Phase I's inputs
    that are not degraded: a UNet from scratch learns from them to carry detail, without which the
    ReferenceNet, its copy, has none to give. Phase II's first `own_references` steps draw the ground
    truth itself, bent and relit, as reference: at first always, then ever less
    (restoration.own_reference).
    """

    size: Annotated[int, Field(ge=8, le=512)] = 512
    degradation: str = "paper"
    mask: MaskSource = MaskSource.REFSEL
    flip: Share = 0.0
    clean: Share = 0.0
    own_references: Natural = 0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    variants: Natural = 0
    workers: Natural = 4


@dataclass(frozen=True)
class PhaseTraining:
    """One phase. A step is one update from `batch_size * accumulate` faces a process.

    `keep` is how many of the newest states stay beside the best model.
    """

    steps: Count = 100_000
    batch_size: Count = 4
    accumulate: Count = 1
    learning_rate: Positive = 1e-4
    rate: Rate = Rate.CONSTANT
    validate_every: Count = 1000
    checkpoint_every: Count = 500
    keep: Count = 2


@dataclass(frozen=True)
class Optimisation:
    """What all three phases share (paper, "Implementation Details")."""

    beta1: Share = 0.5
    beta2: Share = 0.999
    weight_decay: NonNegative = 1e-2
    clip: Positive = 1.0
    """Largest norm of the gradient, as OSEDiff has it; the paper names none."""
    output_rate: Positive = 1.0
    """How many times as fast the output projections of the reference attention learn, which begin at
    zero: beside a ReferenceNet that must not forget too fast what it began with."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    bf16: bool = True
    """Forward passes in bfloat16 where the device has it; weights and optimisers stay in float32."""
    checkpointing: bool = True
    """Keep block inputs alone for the backward pass."""
    recompute: bool = True
    """Run Phase II's first pass again in the backward pass: the cycle then needs no more memory."""


@dataclass(frozen=True)
class RefStarTraining:
    """Settings of all three phases; everything random follows from `seed`.

    `prompt` is what a plain Stable Diffusion is told of every face. `discriminator_width` is that of
    its first level. `pictures` is how many validation faces are drawn, `validation_faces` how many
    are measured.
    """

    seed: Natural = 0
    backbone: Backbone = Backbone.ARC2FACE
    tiny: TinyBackbone = field(default_factory=TinyBackbone)
    prompt: str = "a photograph of a face, in high quality"
    weights: WeightPaths = field(default_factory=WeightPaths)
    restorer: RestorerConfig = field(default_factory=RestorerConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    discriminator_width: Count = 64
    data: FaceData = field(default_factory=FaceData)
    optimisation: Optimisation = field(default_factory=Optimisation)
    phase_one: PhaseTraining = field(default_factory=PhaseTraining)
    phase_two: PhaseTraining = field(default_factory=PhaseTraining)
    phase_three: PhaseTraining = field(default_factory=PhaseTraining)
    validation_faces: Count = 64
    pictures: Natural = 8

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if self.backbone is Backbone.TINY and self.data.size % (
            self.tiny.unshuffle * 2 ** (len(self.tiny.widths) - 1)
        ):
            raise ValueError(
                f"data.size {self.data.size} does not divide into the tiny UNet's grid"
            )
        if self.data.size % 8:
            raise ValueError(f"data.size must divide by 8, not {self.data.size}")

    def phase(self, phase: Phase) -> PhaseTraining:
        """The settings of one phase."""
        return (self.phase_one, self.phase_two, self.phase_three)[phase - 1]


def read_refstar(path: Path) -> RefStarTraining:
    """Read settings from a YAML file; what it leaves out keeps its default.

    Raises:
        ValueError: the file is not readable YAML, or a field is unknown or out of range.
    """
    fields = read_fields(path, RefStarTraining)
    return validated(path, fields, RefStarTraining)


def chosen_settings(name: str) -> RefStarTraining:
    """The settings of a shipped preset, by its name, or of a YAML file, by its path.

    Raises:
        ValueError: there is no such preset or file, or it is wrong.
    """
    preset = PRESETS / f"{name}.yaml"
    shipped = "/" not in name and preset.is_file()
    return read_refstar(preset if shipped else Path(name))

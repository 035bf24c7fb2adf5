"""How RefSel is trained: one dataclass, readable from YAML, every default from docs/refsel.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from dataset_engine.shards.augmentation import AugmentationSettings
from models.refsel import RefSelConfig
from restoration.yaml_settings import read_fields, validated

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class RefSelTraining:
    """Settings of RefSel's training (paper, "Reference Selection Module", "Implementation Details").

    A step is one update of the weights from `batch_size * accumulate` examples a process. `model`
    is used only where no bootstrap weights are given. What conflicts is learned from clear images
    first: the share of undegraded inputs falls from 1 to 0 in the first `clean_steps`. With `variants`
    each triplet is degraded in so many ways, which are kept in memory up to `kept_gigabytes`; 0 draws
    another degradation every time. `minutes` is no setting: the length is fixed in steps, so that a
    run can be repeated.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    steps: Count = 1000
    batch_size: Count = 8
    accumulate: Count = 1
    learning_rate: Positive = 1e-3
    beta1: Share = 0.5
    beta2: Share = 0.999
    weight_decay: NonNegative = 1e-2
    ohem_threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    ohem_min_kept: Share = 1 / 16
    conflict_weight: Positive = 2.0
    detail_weight: NonNegative = 0.5
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    degradation: str = "paper"
    clean_steps: Annotated[int, Field(ge=0)] = 0
    variants: Annotated[int, Field(ge=0)] = 0
    kept_gigabytes: NonNegative = 4.0
    validate_every: Count = 250
    checkpoint_every: Count = 50
    pictures: Annotated[int, Field(ge=0)] = 4
    workers: Annotated[int, Field(ge=0)] = 1
    model: RefSelConfig = field(default_factory=RefSelConfig)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    __pydantic_config__ = ConfigDict(extra="forbid")


def read_training(path: Path) -> RefSelTraining:
    """Read settings from a YAML file; what it leaves out keeps its default.

    Raises:
        ValueError: the file is not readable YAML, or a field is unknown or out of range.
    """
    fields = read_fields(path, RefSelTraining)
    for name, part in (("model", RefSelConfig()), ("augmentation", AugmentationSettings())):
        unknown = set(fields.get(name) or {}) - set(asdict(part))
        if unknown:
            raise ValueError(f"{path}: {name} has no field {', '.join(sorted(unknown))}")
    return validated(path, fields, RefSelTraining)

"""What the degradation draws from: probabilities and ranges, and the named presets.

The presets live in `presets.yaml` beside this file and are parsed into the frozen dataclasses below;
a wrong value is refused with the file, the preset and the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

PRESETS_FILE = Path(__file__).with_name("presets.yaml")


class Family(StrEnum):
    """The six kernel families of Real-ESRGAN."""

    ISO = "iso"
    ANISO = "aniso"
    GENERALIZED_ISO = "generalized_iso"
    GENERALIZED_ANISO = "generalized_aniso"
    PLATEAU_ISO = "plateau_iso"
    PLATEAU_ANISO = "plateau_aniso"


class Interpolation(StrEnum):
    """How an image is resized."""

    AREA = "area"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the low end {value[0]} is above the high end {value[1]}")
    return value


def _odd(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1] or not (value[0] % 2 and value[1] % 2):
        raise ValueError(f"expected two odd sizes, the smaller first, got {list(value)}")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeSpan = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveSpan = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Quality = Annotated[int, Field(ge=1, le=100)]
QualitySpan = Annotated[tuple[Quality, Quality], AfterValidator(_ordered)]
Size = Annotated[int, Field(ge=3, le=101)]
SizeSpan = Annotated[tuple[Size, Size], AfterValidator(_odd)]
_CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_CONFIG)
class BlurSettings:
    """One stage's blur. With `probability` a kernel is drawn: sinc, motion or defocus with their own
    probabilities, and one of the six families by weight otherwise. Lengths are in pixels.
    """  # noqa: D205

    families: dict[Family, NonNegative]
    sigma: NonNegativeSpan
    size: SizeSpan
    probability: Probability = 1.0
    sinc: Probability = 0.0
    motion: Probability = 0.0
    defocus: Probability = 0.0
    beta_generalized: PositiveSpan = (0.5, 4.0)
    beta_plateau: PositiveSpan = (1.0, 2.0)
    motion_length: PositiveSpan = (3.0, 20.0)
    motion_bend: NonNegativeSpan = (0.0, 2.0)
    defocus_radius: PositiveSpan = (1.0, 6.0)
    defocus_edge: PositiveSpan = (0.5, 1.5)

    def __post_init__(self) -> None:
        """Checks what several fields have to agree on."""
        if sum(self.families.values()) <= 0:
            raise ValueError("families: at least one weight must be above 0")
        if self.sinc + self.motion + self.defocus > 1:
            raise ValueError("sinc + motion + defocus: these probabilities add up to more than 1")


@dataclass(frozen=True, config=_CONFIG)
class ResizeSettings:
    """One stage's resize, to a size relative to the input's.

    Either `scale` with the probabilities `up`, `down` and `keep` (Real-ESRGAN: the scale is uniform in
    [1, high], in [low, 1], or 1), or `factor` (face presets: the input's size is divided by a number
    uniform in [low, high]).
    """

    interpolations: tuple[Interpolation, ...] = tuple(Interpolation)
    scale: PositiveSpan | None = None
    up: Probability = 0.0
    down: Probability = 0.0
    keep: Probability = 0.0
    factor: PositiveSpan | None = None

    def __post_init__(self) -> None:
        """Checks what several fields have to agree on."""
        if not self.interpolations:
            raise ValueError("interpolations: at least one is needed")
        if (self.scale is None) == (self.factor is None):
            raise ValueError("scale, factor: exactly one of the two must be given")
        total = self.up + self.down + self.keep
        if self.scale is not None and not self.scale[0] <= 1 <= self.scale[1]:
            raise ValueError(f"scale: 1 must lie in {list(self.scale)}")
        if self.scale is not None and abs(total - 1) > 1e-6:
            raise ValueError(f"up + down + keep: expected 1, got {total:g}")
        if self.factor is not None and total > 0:
            raise ValueError("up, down, keep: these go with scale, not with factor")


@dataclass(frozen=True, config=_CONFIG)
class NoiseSettings:
    """One stage's noise: Gaussian with probability `gaussian`, else Poisson; gray with `gray`.

    `sigma` is the Gaussian's standard deviation in grey levels (0-255). `poisson` multiplies the
    photon noise of an image whose white is 255 photons.
    """

    sigma: NonNegativeSpan
    gaussian: Probability = 1.0
    poisson: NonNegativeSpan | None = None
    gray: Probability = 0.0

    def __post_init__(self) -> None:
        """Checks what several fields have to agree on."""
        if (self.poisson is None) != (self.gaussian == 1):
            raise ValueError("poisson: needed exactly when gaussian is below 1")


@dataclass(frozen=True, config=_CONFIG)
class StageSettings:
    """One stage: blur, resize, noise, JPEG, in this order."""

    blur: BlurSettings
    resize: ResizeSettings
    noise: NoiseSettings
    jpeg: QualitySpan


@dataclass(frozen=True, config=_CONFIG)
class FinalSettings:
    """The way back: resize to the input's size divided by `divisor`, and with `sinc` a sinc filter.

    With probability `before_jpeg` both come before the last stage's JPEG, else after it. A `divisor` of
    4 is Real-ESRGAN's own arithmetic for its x4 network; the result is then enlarged to the input's
    size at the very end.
    """

    sinc: Probability = 0.0
    size: SizeSpan = (7, 21)
    before_jpeg: Probability = 0.0
    divisor: Annotated[int, Field(ge=1, le=16)] = 1
    interpolations: tuple[Interpolation, ...] = field(default=tuple(Interpolation))

    def __post_init__(self) -> None:
        """Checks what has to be there."""
        if not self.interpolations:
            raise ValueError("interpolations: at least one is needed")


@dataclass(frozen=True, config=_CONFIG)
class DegradationSettings:
    """The whole degradation, and the share of detail kept under which an input counts as severe."""

    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)]
    final: FinalSettings
    severe_threshold: Probability = 0.15


_PRESETS: TypeAdapter[DegradationSettings] = TypeAdapter(DegradationSettings)


def parse(values: Mapping[str, Any], where: str) -> DegradationSettings:
    """Makes settings of a mapping such as a preset in the YAML file.

    Raises:
        ValueError: names `where`, the field's path and what is wrong with it.
    """
    try:
        return _PRESETS.validate_python(dict(values))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, entry['loc'])) or 'preset'}: {entry['msg']}"
            f" (got {repr(entry['input'])[:80]})"
            for entry in error.errors()
        ]
        raise ValueError(f"{where}: {'; '.join(problems)}") from error


def read_presets(path: Path) -> dict[str, DegradationSettings]:
    """All presets of a YAML file, by name. Names that start with a dot only hold shared values.

    Raises:
        ValueError: the file is not a mapping of presets, or one of them is wrong.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{path}: expected presets by name, got {type(document).__name__}")
    presets: dict[str, DegradationSettings] = {}
    for name, values in document.items():
        if str(name).startswith("."):
            continue
        if not isinstance(values, dict):
            raise ValueError(f"{path}, preset {name!r}: expected fields, got {repr(values)[:80]}")
        presets[str(name)] = parse(values, f"{path}, preset {name!r}")
    return presets


@cache
def presets() -> Mapping[str, DegradationSettings]:
    """The presets that come with the engine, by name."""
    return read_presets(PRESETS_FILE)


def preset(name: str) -> DegradationSettings:
    """One of the presets that come with the engine.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in presets():
        raise ValueError(f"no degradation preset {name!r}; there are {', '.join(presets())}")
    return presets()[name]

"""Every value that one degradation has drawn: enough to make the same picture again.

Fields of noise and trajectories of motion are named by a seed of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dataset_engine.degradation.settings import Family, Interpolation

_CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class FamilyBlur:
    """A kernel of one of the six families: odd `size` in px, sigmas in px, rotation in radians.

    `beta` is the exponent of the generalized and plateau families (1 in the plain Gaussian).
    """

    family: Family
    size: int
    sigma_x: float
    sigma_y: float
    rotation: float
    beta: float
    kind: Literal["family"] = "family"
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class SincBlur:
    """A circular low-pass of odd `size` in px, cut off at `cutoff` radians a pixel."""

    size: int
    cutoff: float
    kind: Literal["sinc"] = "sinc"
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class MotionBlur:
    """A random trajectory: its length in px, first heading and spread of the heading in radians."""

    length: float
    heading: float
    bend: float
    seed: int
    kind: Literal["motion"] = "motion"
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class DefocusBlur:
    """A disk of `radius` px whose rim falls off over `edge` px to either side."""

    radius: float
    edge: float
    kind: Literal["defocus"] = "defocus"
    __pydantic_config__ = _CONFIG


Blur = Annotated[FamilyBlur | SincBlur | MotionBlur | DefocusBlur, Field(discriminator="kind")]


@dataclass(frozen=True)
class GaussianNoise:
    """Noise of standard deviation `sigma` grey levels, one field for all channels if `gray`."""

    sigma: float
    gray: bool
    seed: int
    kind: Literal["gaussian"] = "gaussian"
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class PoissonNoise:
    """Photon noise times `scale`, one field for all channels if `gray`."""

    scale: float
    gray: bool
    seed: int
    kind: Literal["poisson"] = "poisson"
    __pydantic_config__ = _CONFIG


Noise = Annotated[GaussianNoise | PoissonNoise, Field(discriminator="kind")]


@dataclass(frozen=True)
class StageParameters:
    """One stage's blur, the size it resizes to, its noise and its JPEG quality."""

    blur: Blur | None
    height: int
    width: int
    interpolation: Interpolation
    noise: Noise | None
    jpeg: int
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class FinalParameters:
    """The way back: size, sinc filter, and whether both come before the last stage's JPEG."""

    height: int
    width: int
    interpolation: Interpolation
    sinc: SincBlur | None
    before_jpeg: bool
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class Parameters:
    """All that was drawn for an input of `height` x `width` px from `seed`."""

    seed: int
    height: int
    width: int
    stages: tuple[StageParameters, ...]
    final: FinalParameters
    __pydantic_config__ = _CONFIG

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings and lists, for JSON; `from_dict` is the way back."""
        values = asdict(self)
        return {**values, "stages": list(values["stages"])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parameters:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: names the first field that is missing, unknown or of the wrong kind.
        """
        try:
            return _ADAPTER.validate_python(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"degradation parameters, {where}: {first['msg']}") from error


_ADAPTER: TypeAdapter[Parameters] = TypeAdapter(Parameters)

"""Draws the parameters of one degradation from its settings: the distributions, and nothing else.

The laws are Real-ESRGAN's (Wang et al. 2021b, Sec. 3 and its x4plus options); motion and defocus blur
take their part of the kernel choice, as the paper's "Training Data" has them embedded.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from dataset_engine.degradation.parameters import (
    Blur,
    DefocusBlur,
    FamilyBlur,
    FinalParameters,
    GaussianNoise,
    MotionBlur,
    Noise,
    Parameters,
    PoissonNoise,
    SincBlur,
    StageParameters,
)
from dataset_engine.degradation.settings import (
    BlurSettings,
    DegradationSettings,
    Family,
    NoiseSettings,
    ResizeSettings,
)

_Item = TypeVar("_Item")
_SEEDS = 2**32


def draw(seed: int, height: int, width: int, settings: DegradationSettings) -> Parameters:
    """Draws all parameters for an input of `height` x `width` px.

    Raises:
        ValueError: `seed` is negative.
    """
    if seed < 0:
        raise ValueError(f"seed: expected a number from 0 on, got {seed}")
    rng = np.random.default_rng(seed)
    stages = []
    for number, stage in enumerate(settings.stages, start=1):
        blur = _blur(rng, stage.blur) if _happens(rng, stage.blur.probability) else None
        # In Real-ESRGAN only the last stage works on the scale of the network's own input.
        divisor = settings.final.divisor if number == len(settings.stages) else 1
        scale = _scale(rng, stage.resize) / divisor
        stages.append(
            StageParameters(
                blur=blur,
                height=max(1, round(height * scale)),
                width=max(1, round(width * scale)),
                interpolation=_one_of(rng, stage.resize.interpolations),
                noise=_noise(rng, stage.noise),
                jpeg=stage.jpeg[0] + int(rng.random() * (stage.jpeg[1] - stage.jpeg[0] + 1)),
            )
        )
    final = settings.final
    return Parameters(
        seed=seed,
        height=height,
        width=width,
        stages=tuple(stages),
        final=FinalParameters(
            height=max(1, round(height / final.divisor)),
            width=max(1, round(width / final.divisor)),
            interpolation=_one_of(rng, final.interpolations),
            sinc=_sinc(rng, final.size, lowest=math.pi / 3) if _happens(rng, final.sinc) else None,
            before_jpeg=_happens(rng, final.before_jpeg),
        ),
    )


def _happens(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _one_of(rng: np.random.Generator, items: Sequence[_Item]) -> _Item:
    return items[int(rng.random() * len(items))]


def _uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    return span[0] + (span[1] - span[0]) * rng.random()


def _odd(rng: np.random.Generator, span: tuple[int, int]) -> int:
    return span[0] + 2 * int(rng.random() * ((span[1] - span[0]) // 2 + 1))


def _blur(rng: np.random.Generator, settings: BlurSettings) -> Blur:
    choice = rng.random()
    if choice < settings.sinc:
        return _sinc(rng, settings.size, lowest=None)
    choice -= settings.sinc
    if choice < settings.motion:
        return MotionBlur(
            length=_uniform(rng, settings.motion_length),
            heading=_uniform(rng, (-math.pi, math.pi)),
            bend=_uniform(rng, settings.motion_bend),
            seed=int(rng.integers(_SEEDS)),
        )
    choice -= settings.motion
    if choice < settings.defocus:
        return DefocusBlur(
            radius=_uniform(rng, settings.defocus_radius),
            edge=_uniform(rng, settings.defocus_edge),
        )
    return _family_blur(rng, settings)


def _family_blur(rng: np.random.Generator, settings: BlurSettings) -> FamilyBlur:
    ends = list(accumulate(settings.families.values()))
    family = list(settings.families)[bisect_right(ends, rng.random() * ends[-1])]
    sigma_x = _uniform(rng, settings.sigma)
    iso = family in (Family.ISO, Family.GENERALIZED_ISO, Family.PLATEAU_ISO)
    beta = 1.0
    if family in (Family.GENERALIZED_ISO, Family.GENERALIZED_ANISO):
        beta = _beta(rng, settings.beta_generalized)
    elif family in (Family.PLATEAU_ISO, Family.PLATEAU_ANISO):
        beta = _beta(rng, settings.beta_plateau)
    return FamilyBlur(
        family=family,
        size=_odd(rng, settings.size),
        sigma_x=sigma_x,
        sigma_y=sigma_x if iso else _uniform(rng, settings.sigma),
        rotation=0.0 if iso else _uniform(rng, (-math.pi, math.pi)),
        beta=beta,
    )


def _beta(rng: np.random.Generator, span: tuple[float, float]) -> float:
    # Half of the shapes are more peaked than a Gaussian and half are flatter, whatever the span.
    middle = min(max(1.0, span[0]), span[1])
    return _uniform(rng, (span[0], middle) if _happens(rng, 0.5) else (middle, span[1]))


def _sinc(rng: np.random.Generator, sizes: tuple[int, int], *, lowest: float | None) -> SincBlur:
    size = _odd(rng, sizes)
    if lowest is None:
        # A small kernel cannot hold a low cut-off without its own truncation blurring more.
        lowest = math.pi / 3 if size < 13 else math.pi / 5
    return SincBlur(size=size, cutoff=_uniform(rng, (lowest, math.pi)))


def _scale(rng: np.random.Generator, settings: ResizeSettings) -> float:
    if settings.factor is not None:
        return 1 / _uniform(rng, settings.factor)
    if settings.scale is None:
        return 1.0
    choice = rng.random()
    if choice < settings.up:
        return _uniform(rng, (1.0, settings.scale[1]))
    if choice < settings.up + settings.down:
        return _uniform(rng, (settings.scale[0], 1.0))
    return 1.0


def _noise(rng: np.random.Generator, settings: NoiseSettings) -> Noise:
    gaussian = settings.poisson is None or _happens(rng, settings.gaussian)
    level = _uniform(rng, settings.sigma if gaussian else settings.poisson or (0.0, 0.0))
    gray = _happens(rng, settings.gray)
    seed = int(rng.integers(_SEEDS))
    if gaussian:
        return GaussianNoise(sigma=level, gray=gray, seed=seed)
    return PoissonNoise(scale=level, gray=gray, seed=seed)

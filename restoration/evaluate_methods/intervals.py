"""How sure a mean over faces is: percentile bootstrap, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

RESAMPLES: Final = 2000
LEVEL: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """Bounds of a mean, at 95 %."""

    low: float
    high: float


def mean_interval(values: Sequence[float], seed: int) -> Interval | None:
    """The interval of the mean when faces are drawn anew with replacement.

    Args:
        values: one a face.
        seed: of the draws: the same for all methods, so that all see the same draws of faces.

    Returns:
        None for fewer than two faces, about whose spread nothing is known.
    """
    if len(values) < 2:
        return None
    given = np.asarray(values, np.float64)
    random = np.random.default_rng([seed, len(given)])
    means = np.empty(RESAMPLES)
    # Row by row: all draws of a thousand faces at once would take megabytes for nothing.
    for number in range(RESAMPLES):
        means[number] = given[random.integers(0, len(given), len(given))].mean()
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))

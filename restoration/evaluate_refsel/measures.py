"""RefSel's answer on one degraded triplet, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards import Scenario
from models.metrics import Confusion, boundary_f_score
from restoration.refsel_data import Example

BINS = 20
"""Bins of p for the reliability curve."""


@dataclass(frozen=True)
class Reliability:
    """Counts per bin of p over face-region pixels: int64[BINS] each, and the sum of p, float64[BINS]."""

    pixels: NDArray[np.int64]
    consistent: NDArray[np.int64]
    p_sum: NDArray[np.float64]

    @classmethod
    def count(cls, p: NDArray[np.float32], mask: NDArray[np.bool_]) -> Reliability:
        """Count pixels: p float32[N] in [0, 1] and whether each is consistent, bool[N]."""
        place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
        return cls(
            np.bincount(place, minlength=BINS),
            np.bincount(place[mask], minlength=BINS),
            np.bincount(place, weights=p, minlength=BINS).astype(np.float64),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.pixels + other.pixels,
            self.consistent + other.consistent,
            self.p_sum + other.p_sum,
        )

    @property
    def expected_error(self) -> float:
        """Expected calibration error in [0, 1]: mean distance of p from the share that is consistent."""
        total = int(self.pixels.sum())
        return float(np.abs(self.consistent - self.p_sum).sum() / total) if total else float("nan")


@dataclass(frozen=True)
class Measured:
    """What is counted of one test input.

    `detail_kept` is the share in [0, 1] of the ground truth's facial detail in the input;
    `boundary_f` is that of the border between consistent and conflict, in [0, 1].
    """

    key: str
    scenario: Scenario | None
    detail_kept: float
    severe: bool
    confusion: Confusion
    boundary_f: float
    reliability: Reliability


def measure(
    example: Example, p: NDArray[np.float32], threshold: float, scenario: Scenario | None
) -> Measured:
    """Count one answer against M (the severe rule applied) in the reference's face region."""
    mask, region = example.pair.mask, example.pair.region
    kept = p > threshold
    return Measured(
        key=example.key,
        scenario=scenario,
        detail_kept=example.detail_kept,
        severe=example.severe,
        confusion=Confusion.count(kept, mask, region),
        boundary_f=boundary_f_score(kept, mask, region),
        reliability=Reliability.count(p[region], mask[region]),
    )

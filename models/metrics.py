"""How well masks agree with the reviewed ones, counted in the face region of the reference.

Accuracy alone hides conflicts (an all-ones mask is right on most pixels), so every score comes with
its conflict recall and precision, and `all_ones` gives the baseline to print beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

BoolImage = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Pixel counts in the face region, of one pair or summed over many."""

    kept_consistent: int = 0
    kept_conflict: int = 0
    dropped_consistent: int = 0
    dropped_conflict: int = 0

    @classmethod
    def count(cls, predicted: BoolImage, mask: BoolImage, region: BoolImage) -> Self:
        """Compare a predicted with a reviewed mask, each bool[H, W], where `region` is true.

        Raises:
            ValueError: the three differ in shape.
        """
        if not predicted.shape == mask.shape == region.shape:
            raise ValueError(
                f"predicted {predicted.shape}, mask {mask.shape} and region {region.shape} differ"
            )
        inside_predicted, inside_mask = predicted[region], mask[region]
        kept = int(inside_predicted.sum())
        consistent = int(inside_mask.sum())
        both = int((inside_predicted & inside_mask).sum())
        return cls(
            both, kept - both, consistent - both, inside_mask.size - kept - consistent + both
        )

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.kept_consistent + other.kept_consistent,
            self.kept_conflict + other.kept_conflict,
            self.dropped_consistent + other.dropped_consistent,
            self.dropped_conflict + other.dropped_conflict,
        )

    @property
    def all_ones(self) -> Confusion:
        """What the mask that keeps the whole face region would have scored."""
        return Confusion(
            kept_consistent=self.kept_consistent + self.dropped_consistent,
            kept_conflict=self.kept_conflict + self.dropped_conflict,
        )

    @property
    def accuracy(self) -> float:
        """Share of the face region that is right (Table 3); NaN for an empty region."""
        right = self.kept_consistent + self.dropped_conflict
        return _ratio(right, right + self.kept_conflict + self.dropped_consistent)

    @property
    def iou(self) -> float:
        """Intersection over union of the consistent class; NaN where neither mask has any."""
        return _ratio(
            self.kept_consistent,
            self.kept_consistent + self.kept_conflict + self.dropped_consistent,
        )

    @property
    def conflict_recall(self) -> float:
        """Share of the conflict pixels that were dropped; NaN without conflicts."""
        return _ratio(self.dropped_conflict, self.dropped_conflict + self.kept_conflict)

    @property
    def conflict_precision(self) -> float:
        """Share of the dropped pixels that are conflicts; NaN where nothing was dropped."""
        return _ratio(self.dropped_conflict, self.dropped_conflict + self.dropped_consistent)

    @property
    def conflict_iou(self) -> float:
        """Intersection over union of the conflict class; NaN where neither mask has any."""
        return _ratio(
            self.dropped_conflict,
            self.dropped_conflict + self.kept_conflict + self.dropped_consistent,
        )

    @property
    def kappa(self) -> float:
        """Cohen's kappa of the two masks: agreement beyond what their shares alone would give.

        NaN where both masks are all consistent or all conflict, or the region is empty.
        """
        pixels = (
            self.kept_consistent
            + self.kept_conflict
            + self.dropped_consistent
            + self.dropped_conflict
        )
        kept = self.kept_consistent + self.kept_conflict
        consistent = self.kept_consistent + self.dropped_consistent
        # in whole numbers, so that no rounding decides whether it is defined
        chance = kept * consistent + (pixels - kept) * (pixels - consistent)
        right = (self.kept_consistent + self.dropped_conflict) * pixels
        return _ratio(right - chance, pixels * pixels - chance)


@dataclass(frozen=True)
class Scores:
    """The numbers of one row of a table, each in [0, 1] or NaN where it is not defined.

    Accuracy and IoU are means over pairs, as in Table 3. The conflict scores are taken over the
    pooled pixels: a pair with ten conflict pixels should not count as much as one with ten
    thousand. `conflict_recall_by_pair` is the mean over pairs, in which small conflicts do count.
    """

    pairs: int
    accuracy: float
    iou: float
    conflict_recall: float
    conflict_precision: float
    conflict_iou: float
    conflict_recall_by_pair: float


def summarise(confusions: Iterable[Confusion]) -> Scores:
    """Scores of a set of pairs, one `Confusion` each."""
    counted = list(confusions)
    pooled = sum(counted, Confusion())
    return Scores(
        pairs=len(counted),
        accuracy=mean_of_defined(one.accuracy for one in counted),
        iou=mean_of_defined(one.iou for one in counted),
        conflict_recall=pooled.conflict_recall,
        conflict_precision=pooled.conflict_precision,
        conflict_iou=pooled.conflict_iou,
        conflict_recall_by_pair=mean_of_defined(one.conflict_recall for one in counted),
    )


def summarise_all_ones(confusions: Iterable[Confusion]) -> Scores:
    """Scores that the all-ones mask gets on the same pairs."""
    return summarise(one.all_ones for one in confusions)


def boundary_f_score(
    predicted: BoolImage, mask: BoolImage, region: BoolImage, tolerance: int = 4
) -> float:
    """F1 of the two masks' borders inside the face region, matched within `tolerance` pixels.

    The border is that between consistent and conflict; the region's own outline is no decision of
    RefSel and does not count. 1 when neither mask has a border, 0 when only one has.
    """
    ours, theirs = _border(predicted & region, region), _border(mask & region, region)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    size = 2 * tolerance + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    near_ours = cv2.dilate(ours.astype(np.uint8), disk).astype(bool)
    near_theirs = cv2.dilate(theirs.astype(np.uint8), disk).astype(bool)
    precision = float(near_theirs[ours].mean())
    recall = float(near_ours[theirs].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _border(kept: BoolImage, region: BoolImage) -> BoolImage:
    dropped = (region & ~kept).astype(np.uint8)
    around_dropped: BoolImage = cv2.dilate(dropped, np.ones((3, 3), np.uint8)) > 0
    return kept & around_dropped


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def mean_of_defined(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan

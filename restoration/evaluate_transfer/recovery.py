"""How much of a face's marks came back, and how much of what it should not have came through.

Everything is measured on what a high-pass filter leaves, so that light and skin colour do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""float32 [S, S, 3] in [0, 1]."""
Mask = NDArray[np.bool_]

SIGMA: Final = 1 / 32
"""Of the Gaussian that the high-pass filter takes away, as a share of the side."""
SMALLEST: Final = 6
"""Pixels that marks must have to be counted at all."""
FAINTEST: Final = 0.012
"""Standard deviation under which marks are not seen in the truth itself."""
HIDDEN: Final = 0.1
"""Contrast up to which an input is said not to show its marks."""


def levels(image: NDArray[np.uint8]) -> Image:
    """uint8 [..., 3] as float32 in [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


def high_pass(image: Image) -> Image:
    """The image without its coarse part: float32 [S, S, 3] around 0."""
    sigma = SIGMA * image.shape[0]
    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def mark_pixels(marks: Mask, usable: Mask, size: int) -> Mask:
    """Marks at the networks' size with a rim of skin, by which a mark of one pixel has a contrast.

    Args:
        marks: bool [H, W].
        usable: bool [size, size], where the reference may be used.
        size: side, px.

    Returns:
        bool [size, size].
    """
    share = cv2.resize(marks.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    rim = 2 * max(1, round(size / 64)) + 1
    grown = cv2.dilate((share > 0.3).astype(np.uint8), np.ones((rim, rim), np.uint8))
    return np.asarray((grown > 0) & usable, np.bool_)


@dataclass(frozen=True)
class Agreement:
    """How a picture agrees with the truth inside marks, both high-pass filtered.

    `correlation` is in [-1, 1]. `contrast` is the slope of the picture on the truth: 0 where nothing of
    a mark is seen, 1 where it is as strong as in truth. NaN where there are no marks.
    """

    correlation: float
    contrast: float


def agreement(
    images: Sequence[Image], truths: Sequence[Image], places: Sequence[Mask]
) -> Agreement:
    """Recovery over the marks of all faces together, each pixel counting once.

    Args:
        images: what is measured.
        truths: what they should be.
        places: bool [S, S] each, the pixels that count.
    """
    shown = [high_pass(one)[where] for one, where in zip(images, places, strict=True)]
    wanted = [high_pass(one)[where] for one, where in zip(truths, places, strict=True)]
    if not sum(map(len, shown)):
        return Agreement(float("nan"), float("nan"))
    found, true = np.concatenate(shown).ravel(), np.concatenate(wanted).ravel()
    if not found.std() or not true.std():
        return Agreement(0.0, _slope(found, true))
    return Agreement(float(np.corrcoef(found, true)[0, 1]), _slope(found, true))


def hidden(degraded: Image, truth: Image, place: Mask) -> bool:
    """Whether there are marks in the truth that the input no longer shows."""
    if place.sum() < SMALLEST:
        return False
    true = high_pass(truth)[place]
    return float(true.std()) > FAINTEST and _slope(high_pass(degraded)[place], true) < HIDDEN


def leak(
    images: Sequence[Image],
    alone: Sequence[Image],
    references: Sequence[Image],
    places: Sequence[Mask],
) -> float:
    """How much of what the reference alone has came through: 0 nothing, 1 as it stands there.

    The slope of what the reference changed in the output, on what would turn Phase I's output into the
    reference; NaN where no place is given.

    Args:
        images: with the reference.
        alone: Phase I, without it.
        references: the references.
        places: bool [S, S] each, of the intruder on the reference's pixels.
    """
    changed, could = [], []
    for image, first, reference, where in zip(images, alone, references, places, strict=True):
        base = high_pass(first)[where]
        changed.append(high_pass(image)[where] - base)
        could.append(high_pass(reference)[where] - base)
    if not sum(map(len, could)):
        return float("nan")
    return _slope(np.concatenate(changed), np.concatenate(could))


def _slope(found: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    total = float(np.square(true).sum())
    return float((found * true).sum()) / total if total else 0.0

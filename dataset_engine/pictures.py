"""Pictures for people: masks over faces, strips of images with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

KEPT = (25, 195, 125)
CONFLICT = (235, 70, 60)

# Outside of the face, kept, conflict: how much of the face is left, and what is added to it.
_LEFT = np.array([0.35, 0.82, 0.45], np.float32)
_ADDED = (np.array([(0, 0, 0), KEPT, CONFLICT]) * [[0], [0.18], [0.55]]).astype(np.float32)


def over(image: Image, mask: NDArray[np.bool_], region: NDArray[np.bool_]) -> Image:
    """Show a mask over its reference: kept parts tinted green, conflicts red, the rest dimmed.

    Args:
        image: RGB uint8 [H, W, 3].
        mask: bool [H, W], what may be transferred.
        region: bool [H, W], the face region.

    Returns:
        RGB uint8 [H, W, 3].
    """
    kind = np.where(region, np.where(mask, 1, 2), 0)
    shown = image * _LEFT[kind][..., None] + _ADDED[kind]
    result = np.ascontiguousarray(shown.astype(np.uint8))
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(result, outline, -1, KEPT, 1, cv2.LINE_AA)
    return result


def strip(images: Sequence[Image], height: int) -> Image:
    """Images side by side at one height in pixels, RGB uint8."""
    gap = np.full((height, 4, 3), 255, np.uint8)
    parts: list[Image] = []
    for image in images:
        width = round(image.shape[1] * height / image.shape[0])
        parts += [np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)), gap]
    return np.hstack(parts[:-1])

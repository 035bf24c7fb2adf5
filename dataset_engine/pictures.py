"""Pictures for people: masks over faces, strips of images with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

KEPT = (25, 195, 125)
CONFLICT = (235, 70, 60)


def over(image: Image, mask: NDArray[np.bool_], region: NDArray[np.bool_]) -> Image:
    """Show a mask over its reference: kept parts tinted green, conflicts red, the rest dimmed.

    Args:
        image: RGB uint8 [H, W, 3].
        mask: bool [H, W], what may be transferred.
        region: bool [H, W], the face region.

    Returns:
        RGB uint8 [H, W, 3].
    """
    shown = image.astype(np.float32)
    shown[~region] *= 0.35
    for where, colour, share in ((mask & region, KEPT, 0.18), (region & ~mask, CONFLICT, 0.55)):
        shown[where] = (1 - share) * shown[where] + share * np.array(colour, np.float32)
    result = np.ascontiguousarray(shown.clip(0, 255).astype(np.uint8))
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

"""Pictures of one restoration for people: the mask, the reference under it, before and after."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.pictures import over

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
GAP = 6


def under_mask(reference: Image, mask: Mask) -> Image:
    """What the networks see of a reference: `M * I_ref`, uint8 RGB [S, S, 3]."""
    return np.asarray(reference * mask[..., None], dtype=np.uint8)


def shown_mask(reference: Image, mask: Mask) -> Image:
    """The reference, what is selected tinted green and the rest dimmed, uint8 RGB [S, S, 3]."""
    return over(reference, mask, mask)


def before_after(degraded: Image, reference: Image, mask: Mask, restored: Image) -> Image:
    """Input, reference with its mask, and restored face side by side, uint8 RGB."""
    height = restored.shape[0]
    columns: list[Image] = []
    for image in (degraded, shown_mask(reference, mask), restored):
        columns += [at_side(image, height), np.full((height, GAP, 3), 255, np.uint8)]
    return np.hstack(columns[:-1])


def at_side(image: Image, side: int) -> Image:
    """A square image, uint8 [S, S, 3], at another size."""
    if image.shape[0] == side:
        return image
    way = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=way), dtype=np.uint8)


def mask_at(mask: Mask, side: int) -> Mask:
    """A mask, bool [S, S], at another size."""
    if mask.shape[0] == side:
        return mask
    way = cv2.INTER_AREA if mask.shape[0] > side else cv2.INTER_LINEAR
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=way)
    return np.asarray(share >= 0.5, dtype=np.bool_)


def png(image: NDArray[np.uint8]) -> bytes:
    """A PNG of uint8 RGB [H, W, 3] or grey [H, W], compressed quickly."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    written, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not written:
        raise OSError("the picture could not be encoded as PNG")
    return data.tobytes()

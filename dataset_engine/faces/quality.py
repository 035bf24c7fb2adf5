"""Whether a face is worth keeping: enough pixels, in focus, neither black nor white; and its hash."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Exposure:
    """How a face region is lit, from its luma (0 to 255)."""

    dark: float
    """5th percentile."""
    bright: float
    """95th percentile."""


def sharpness(image: NDArray[np.uint8], region: NDArray[np.bool_], scale: float = 1.0) -> float:
    """How much of the face's detail is fine detail.

    The ratio of the energy in the finest octave to that in the two octaves above it. Contrast and
    brightness fall out of a ratio, so dark and flatly lit faces are not called blurred. A face
    that was enlarged is measured at the size that it had in its source: enlarging alone does not
    lower the figure, and too few pixels are another matter (`eye_distance`).

    Args:
        image: uint8 RGB [512, 512, 3], aligned.
        region: bool [512, 512], the face region.
        scale: aligned px for one source px.

    Returns:
        0 (nothing fine) upwards. Sharp photographs give 0.19 to 0.44, and the same ones under a
        Gaussian blur of 1, 2 and 3 px about 0.11, 0.06 and 0.045.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inner = cv2.erode(region.astype(np.uint8), np.ones((9, 9), dtype=np.uint8)).astype(np.float32)
    if scale > 1.0:
        side = max(32, round(image.shape[0] / scale))
        luma = cv2.resize(luma, (side, side), interpolation=cv2.INTER_AREA)
        inner = cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA)
    where = inner > 0.5
    if not where.any():
        return 0.0
    one, two, eight = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (0.8, 1.6, 6.4))
    fine, coarse = (
        float(((luma - one)[where] ** 2).mean()),
        float(((two - eight)[where] ** 2).mean()),
    )
    return float(np.sqrt(fine / (coarse + 1.0)))


def exposure(image: NDArray[np.uint8], region: NDArray[np.bool_]) -> Exposure:
    """The exposure of the face region (bool [H, W]) of uint8 RGB [H, W, 3]."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[region]
    if luma.size == 0:
        return Exposure(0.0, 0.0)
    dark, bright = np.percentile(luma, (5, 95))
    return Exposure(float(dark), float(bright))


def perceptual_hash(image: NDArray[np.uint8]) -> str:
    """The 64-bit perceptual hash (DCT) of uint8 RGB [H, W, 3] as 16 hexadecimal digits."""
    return str(imagehash.phash(Image.fromarray(image)))


def hamming(first: str, second: str) -> int:
    """How many of the 64 bits of two perceptual hashes differ.

    Raises:
        ValueError: one of them is not 16 hexadecimal digits.
    """
    for value in (first, second):
        if len(value) != 16:
            raise ValueError(f"a perceptual hash has 16 hexadecimal digits, not {value!r}")
    return (int(first, 16) ^ int(second, 16)).bit_count()

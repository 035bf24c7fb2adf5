"""This face's own skin: its light evened out, its colour, and how far other colours are from it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_LEVEL: Final = 130.0
"""The brightness, 0 to 255, that skin is brought to: the floors below then fit every exposure."""


def evenly_lit(
    image: NDArray[np.uint8], seeds: NDArray[np.bool_], core: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Divides out light that falls off across the face, so that skin in the shade is still skin.

    The light is a plane and a bend across the face in log brightness. It is fitted to the seeds
    and then, with beard, lenses and the like weighing next to nothing, to the whole core.

    Args:
        image: uint8 RGB [H, W, 3].
        seeds: bool [H, W], almost certainly skin.
        core: bool [H, W], the face with its parts.

    Returns:
        uint8 RGB [H, W, 3] on which bare skin has about the brightness `_LEVEL`.
    """
    if not seeds.any():
        return image
    height, width = seeds.shape
    y, x = np.mgrid[:height, :width]
    x, y = x / width - 0.5, y / height - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x], axis=-1)
    level = np.log(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) + 8.0)
    flat = np.array([np.median(level[seeds]), 0.0, 0.0, 0.0])
    light = flat
    for where in (seeds, seeds, core, core, core):
        basis, target = terms[where], level[where]
        weight = 1 / (1 + ((target - basis @ light) / 0.2) ** 2) ** 2
        weighted = basis * weight[:, None]
        stiffness = np.diag([5e-5, 1e-3, 2.5e-3, 1e-2]) * len(target)
        light = flat + np.linalg.solve(
            weighted.T @ basis + stiffness, weighted.T @ (target - basis @ flat)
        )
    surface = terms @ light
    middle = float(np.median(surface[seeds]))
    gain = np.exp(np.clip(middle - surface, -np.log(2), np.log(2)))
    gain *= np.clip((_LEVEL + 8.0) / np.exp(middle), 0.5, 4.0)
    return np.asarray(np.clip(np.rint(image * gain[..., None]), 0, 255), dtype=np.uint8)


def distance(lab: NDArray[np.float32], seeds: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How unlike each colour is to the seeds' colour, without the seeds' own outliers.

    Args:
        lab: float32 CIELAB [H, W, 3] in OpenCV's 8-bit scale.
        seeds: bool [H, W], at least one pixel.

    Returns:
        float32 [H, W], the squared Mahalanobis distance: 9 is three standard deviations.
    """
    sample = lab[seeds].astype(np.float64)
    centre, spread = np.median(sample, axis=0), np.eye(3) * 400.0
    for _ in range(3):
        kept = sample[_squared(sample - centre, spread) < 9.0]
        if len(kept) < 50:
            break
        # A floor of 8 levels of lightness and 3 of colour: noise and shade make nothing unlike.
        centre, spread = kept.mean(axis=0), np.cov(kept.T) + np.diag([64.0, 9.0, 9.0])
    return _squared(lab.reshape(-1, 3) - centre, spread).reshape(seeds.shape).astype(np.float32)


def paint_over(
    image: NDArray[np.uint8],
    unlike: NDArray[np.bool_],
    parts: NDArray[np.bool_],
    sure: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Paints eyes, brows, lips, beard and glasses over in the skin around them.

    They belong to the face but have hair's colours, and a colour model of the face that knew them
    would take hair for face.

    Args:
        image: uint8 RGB [H, W, 3].
        unlike: bool [H, W], pixels of the face that do not have the skin's colour.
        parts: bool [H, W], eyes and brows.
        sure: bool [H, W], what is face for certain; nothing else is painted.

    Returns:
        uint8 RGB [H, W, 3].
    """
    square = np.ones((3, 3), dtype=np.uint8)
    covered = cv2.dilate((unlike | parts).astype(np.uint8), square).astype(np.bool_) & sure
    bare = (sure & ~covered).astype(np.float32)
    if bare.sum() < 100:
        return image
    weight = cv2.GaussianBlur(bare, (0, 0), 12.0)[..., None]
    colour = cv2.GaussianBlur(image.astype(np.float32) * bare[..., None], (0, 0), 12.0)
    mean = (image.astype(np.float32) * bare[..., None]).sum(axis=(0, 1)) / bare.sum()
    # Far from any bare skin the blur has no weight left, and the mean takes over.
    fill = (colour + 1e-3 * mean) / (weight + 1e-3)
    painted = image.copy()
    painted[covered] = np.clip(np.rint(fill[covered]), 0, 255).astype(np.uint8)
    return painted


def _squared(away: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ni,ij,nj->n", away, np.linalg.inv(spread), away))

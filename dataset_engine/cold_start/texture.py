"""Where the reference's texture disagrees with the ground truth's, light and colour cast set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.cold_start.parts import Mask
from dataset_engine.cold_start.warp import piecewise_affine

WORK: Final = 256
"""Side at which textures are compared, px: half of the aligned size, where meshes agree."""
SLACK: Final = 5
"""Side of the window in which a pixel may find its like, px of WORK: what a mesh is off by."""
_FITS: Final = 4
_SPREAD: Final = 0.25
"""Log brightness from the smooth light beyond which a pixel says little about the light."""


@dataclass(frozen=True, eq=False)
class PairFaces:
    """A pair as the rule looks at it.

    Attributes:
        gt: uint8 RGB [512, 512, 3].
        reference: uint8 RGB [512, 512, 3].
        gt_landmarks: float32 [478, 2] (x, y) px on `gt`.
        reference_landmarks: float32 [478, 2] px on `reference`.
        gt_region: bool [512, 512], the ground truth's face region.
        region: bool [512, 512], the reference's face region.
    """

    gt: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    gt_landmarks: NDArray[np.float32]
    reference_landmarks: NDArray[np.float32]
    gt_region: Mask
    region: Mask


def disagreement(faces: PairFaces) -> NDArray[np.float32]:
    """How far each pixel of the reference is from anything near it on the warped ground truth.

    Returns:
        float32 [512, 512], 0 where they agree or nothing is known, in units of log brightness and
        colour (0.3 is a contrast that anybody sees).
    """
    region, gt_region = faces.region, faces.gt_region
    size = region.shape[0]
    scale = WORK / size
    there = piecewise_affine(
        (faces.gt_landmarks + 0.5) * scale - 0.5,
        (faces.reference_landmarks + 0.5) * scale - 0.5,
        WORK,
    )
    moved = cv2.remap(_small(faces.gt), there, None, cv2.INTER_LINEAR)
    seen = cv2.remap(
        _small(gt_region.view(np.uint8) * np.uint8(255)), there, None, cv2.INTER_NEAREST
    )
    inside = _small(region.view(np.uint8) * np.uint8(255)) > 127
    known = inside & (cv2.erode((seen > 127).view(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    if np.count_nonzero(known) < 500:
        return np.zeros(region.shape, np.float32)
    a, b = _channels(moved), _channels(_small(faces.reference))
    a = a + _light(b - a, known)
    apart = _beyond(a, b)
    apart[~known] = 0
    wide = cv2.resize(apart, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(region, wide, 0), np.float32)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (WORK, WORK), interpolation=cv2.INTER_AREA), np.uint8)


def _channels(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log brightness, and the two log ratios of colour: light changes them by a smooth sum only."""
    smooth = cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.float32)
    level = np.log(smooth + 16.0)
    red, green, blue = level[..., 0], level[..., 1], level[..., 2]
    return np.stack([(red + green + blue) / 3, red - green, blue - green], axis=-1)


def _light(difference: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """The smooth part of a difference: a quadratic surface a channel, fitted robustly."""
    y, x = np.mgrid[:WORK, :WORK].astype(np.float32) / WORK - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    basis, target = terms[known], difference[known]
    fitted = np.empty_like(difference)
    for channel in range(difference.shape[-1]):
        values = target[:, channel]
        weights = 1 / (1 + ((values - np.median(values)) / _SPREAD) ** 2) ** 2
        for _ in range(_FITS):
            weighted = basis * weights[:, None]
            surface = np.linalg.solve(
                weighted.T @ basis + 1e-2 * np.eye(6, dtype=np.float32), weighted.T @ values
            )
            weights = 1 / (1 + ((values - basis @ surface) / (_SPREAD / 2)) ** 2) ** 2
        fitted[..., channel] = terms @ surface
    return fitted


def _beyond(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each is outside the range of the other's window, over all channels."""
    window = np.ones((SLACK, SLACK), np.uint8)
    far = np.zeros(a.shape, np.float32)
    for one, other in ((a, b), (b, a)):
        low, high = cv2.erode(other, window), cv2.dilate(other, window)
        far = np.maximum(far, np.maximum(one - high, low - one))
    return np.asarray(np.sqrt((far * far).sum(axis=-1)), np.float32)

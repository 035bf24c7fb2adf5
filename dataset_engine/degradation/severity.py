"""How much of the ground truth's facial detail an input still shows, and when that is too little.

The paper replaces M by the whole face region "when the degradation is severe": what could conflict
with the reference can no longer be seen in I_LQ. In every band of detail, g of I and l of I_LQ, the
share kept is

    1 - min ||g - a l||^2 / ||g||^2   over 0 <= a <= 1,

the part of the band's energy that I_LQ explains if it may be turned down but not up. Noise does not
count as detail and hides it (a falls to its Wiener value), blur takes detail away (a is 1 and the
rest is missing), and a mirrored, shifted or invented detail explains nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Standard deviations in px of a 512x512 face, an octave apart, between which the bands of detail lie.
# Finer than the first there is the camera's noise, coarser than the last there is shape and light.
SCALES = (0.7, 1.4, 2.8, 5.6)
# From one scale to the next, in px of the level's own grid, which halves each time.
_STEP = (SCALES[1] ** 2 - SCALES[0] ** 2) ** 0.5
_REACH = 24  # px around the face region that its coarsest band looks at


def detail_kept(gt: NDArray[np.uint8], lq: NDArray[np.uint8], region: NDArray[np.bool_]) -> float:
    """The share of I's detail in the face region that I_LQ still shows: the mean over the bands.

    Args:
        gt: uint8 RGB [H, W, 3], I.
        lq: uint8 RGB [H, W, 3], I_LQ.
        region: bool [H, W], the face region of I.

    Returns:
        From 0 (nothing) to 1 (all of it).

    Raises:
        ValueError: shapes or types do not fit, or the region is empty.
    """
    return float(np.mean(detail_kept_by_band(gt, lq, region)))


def detail_kept_by_band(
    gt: NDArray[np.uint8], lq: NDArray[np.uint8], region: NDArray[np.bool_]
) -> tuple[float, ...]:
    """As `detail_kept`, for each band on its own, the finest first.

    A band in which I has no detail at all counts as kept.
    """
    if gt.shape != lq.shape or gt.ndim != 3 or gt.dtype != np.uint8 or lq.dtype != np.uint8:
        raise ValueError(
            f"expected two uint8 images of one shape [H, W, 3], got {gt.dtype} {gt.shape} and "
            f"{lq.dtype} {lq.shape}"
        )
    if region.shape != gt.shape[:2] or region.dtype != np.bool_:
        raise ValueError(
            f"expected a bool face region {gt.shape[:2]}, got {region.dtype} {region.shape}"
        )
    if not region.any():
        raise ValueError("the face region is empty: there is no detail to measure")
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    window = (
        slice(max(0, rows[0] - _REACH), rows[-1] + 1 + _REACH),
        slice(max(0, columns[0] - _REACH), columns[-1] + 1 + _REACH),
    )
    weights = region[window].astype(np.float32)
    shares = []
    for detail, shown in zip(_bands(gt[window]), _bands(lq[window]), strict=True):
        weights = cv2.resize(weights, detail.shape[::-1], interpolation=cv2.INTER_AREA)
        shares.append(_explained(detail, shown, weights))
    return tuple(shares)


def is_severe(
    gt: NDArray[np.uint8], lq: NDArray[np.uint8], region: NDArray[np.bool_], threshold: float
) -> bool:
    """Whether I_LQ shows less than `threshold` of I's facial detail.

    The threshold is `DegradationSettings.severe_threshold`; docs/degradation.md shows what it means.
    A severe sample's M becomes the whole face region.
    """
    return detail_kept(gt, lq, region) < threshold


def _bands(image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The bands of the luma, each on half the grid of the one before, float32."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = _blurred(luma, SCALES[0])
    bands = []
    for _ in SCALES[1:]:
        coarse = _blurred(fine, _STEP)
        bands.append(cv2.subtract(fine, coarse))
        fine = np.ascontiguousarray(coarse[::2, ::2])
    return bands


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    side = 2 * int(np.ceil(3 * sigma)) + 1
    return np.asarray(cv2.GaussianBlur(image, (side, side), sigma))


def _explained(
    detail: NDArray[np.float32], shown: NDArray[np.float32], weights: NDArray[np.float32]
) -> float:
    inside = detail * weights
    energy = float(np.vdot(inside, detail))
    if energy <= 0:
        return 1.0
    shared = float(np.vdot(inside, shown))
    own = float(np.vdot(shown * weights, shown))
    if shared <= 0:
        return 0.0
    gain = min(1.0, shared / own)
    return min(1.0, max(0.0, (2 * gain * shared - gain * gain * own) / energy))

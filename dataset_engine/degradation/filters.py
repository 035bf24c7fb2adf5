"""Convolution with a small kernel, by whichever of three exact or near-exact ways is cheapest.

`cv2.filter2D` falls into a slow transform above 11x11 taps. Here a kernel first loses what is too faint
to see; then it runs as a sum of separable filters (its singular vectors), directly, or through one
real transform per channel with padding chosen for speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation.kernels import Kernel

Image = NDArray[np.uint8] | NDArray[np.float32]

# Absolute weight, of a kernel's total 1, that may be neglected: at most this share of 255 grey levels in
# the worst picture, and a few hundredths of a level in a photograph.
NEGLIGIBLE = 2e-3
_LARGEST_DIRECT = 121  # taps: cv2.filter2D works directly up to here on float32
# Nanoseconds a pixel and channel on one core; only their ratios matter.
_SEPARABLE_TAP, _SEPARABLE_TAP_UINT8, _DIRECT_TAP, _TRANSFORM = 0.14, 0.1, 0.05, 5.2
_SKEW_PENALTY = 2.5  # a separable filter that is not symmetric costs this much more


@dataclass(frozen=True)
class Separable:
    """The kernel as a sum of outer products column x row, each float64 [size]."""

    terms: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]


@dataclass(frozen=True)
class Direct:
    """The kernel tap by tap."""

    taps: Kernel


@dataclass(frozen=True)
class Transform:
    """The kernel by Fourier transforms."""

    taps: Kernel


Plan = Separable | Direct | Transform


def convolve(image: Image, kernel: Kernel) -> NDArray[np.float32]:
    """Correlates every channel with the kernel; the border is mirrored without its edge pixel.

    Args:
        image: uint8 or float32 [H, W, C] or [H, W].
        kernel: [h, w], odd sides, as `cv2.filter2D` takes it.

    Returns:
        float32, the image's shape.
    """
    plan = choose(kernel, image)
    if isinstance(plan, Separable):
        return _separable(image, plan)
    as_float = image.astype(np.float32, copy=False)
    if isinstance(plan, Direct):
        return np.asarray(cv2.filter2D(as_float, cv2.CV_32F, plan.taps.astype(np.float32)))
    return _transform(as_float, plan.taps)


def choose(kernel: Kernel, image: Image) -> Plan:
    """The cheapest way to apply this kernel to this image, by counted operations."""
    taps = trim(kernel)
    tap_cost = _SEPARABLE_TAP_UINT8 if image.dtype == np.uint8 else _SEPARABLE_TAP
    symmetric = bool(np.abs(taps - taps[::-1, ::-1]).max() < 1e-9)
    term_cost = tap_cost * sum(taps.shape) / 2 * (1 if symmetric else _SKEW_PENALTY)
    direct_cost = _DIRECT_TAP * np.count_nonzero(taps)
    padded = _padded(image.shape[0], taps.shape[0]) * _padded(image.shape[1], taps.shape[1])
    transform_cost = _TRANSFORM * padded / (image.shape[0] * image.shape[1])
    direct = taps.size <= _LARGEST_DIRECT and direct_cost < transform_cost
    budget = direct_cost if direct else transform_cost
    terms = _outer_products(taps, int(budget / term_cost), symmetric=symmetric)
    if terms:
        return Separable(terms)
    return Direct(taps) if direct else Transform(taps)


def trim(kernel: Kernel) -> Kernel:
    """Cuts equal margins from opposite sides while what they hold is negligible; sums to 1 again."""
    weights = np.abs(kernel)
    cuts = []
    allowed = NEGLIGIBLE / 4
    for axis in (0, 1):
        lines = weights.sum(axis=1 - axis)
        margin = np.cumsum((lines + lines[::-1])[: len(lines) // 2])
        cuts.append(int(np.searchsorted(margin, allowed, side="right")))
    top, left = cuts
    kept = kernel[top : kernel.shape[0] - top, left : kernel.shape[1] - left]
    return np.asarray(kept / kept.sum(), dtype=np.float64)


def _outer_products(
    taps: Kernel, most: int, *, symmetric: bool
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """The fewest separable terms that leave a negligible rest; none if `most` do not suffice."""
    if most < 1:
        return ()
    pivot = int(np.abs(taps).argmax())
    middle_row, middle_column = divmod(pivot, taps.shape[1])
    # An isotropic Gaussian is its own middle row and column: no need for singular vectors.
    column, row = taps[:, middle_column] / taps.flat[pivot], taps[middle_row]
    if np.abs(taps - column[:, None] * row[None, :]).sum() < NEGLIGIBLE:
        return ((column / (column.sum() * row.sum()), row),)
    if most < 2:
        return ()
    columns, strengths, rows = np.linalg.svd(taps, full_matrices=False)
    rest = taps.copy()
    terms = []
    for index in range(min(most, len(strengths))):
        column, row = columns[:, index] * strengths[index], rows[index]
        if symmetric:
            column, row = _exactly_even_or_odd(column), _exactly_even_or_odd(row)
        terms.append((column, row))
        rest -= column[:, None] * row[None, :]
        if np.abs(rest).sum() < NEGLIGIBLE:
            # What is left out must not darken the picture: the terms add up to 1 again.
            brightness = 1 / (1 - rest.sum())
            return tuple((column * brightness, row) for column, row in terms)
    return ()


def _exactly_even_or_odd(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Removes rounding, so that OpenCV sees the symmetry that lets it halve the work."""
    mirrored = vector[::-1]
    even, odd = (vector + mirrored) / 2, (vector - mirrored) / 2
    size = np.abs(vector).max() * 1e-6
    if np.abs(odd).max() < size:
        return np.asarray(even)
    return np.asarray(odd) if np.abs(even).max() < size else vector


def _separable(image: Image, plan: Separable) -> NDArray[np.float32]:
    result: NDArray[np.float32] | None = None
    for column, row in plan.terms:
        part = cv2.sepFilter2D(image, cv2.CV_32F, row.astype(np.float32), column.astype(np.float32))
        result = part if result is None else cv2.add(result, part, dst=result)
    return np.asarray(result, dtype=np.float32)


def _padded(side: int, taps: int) -> int:
    return int(cv2.getOptimalDFTSize(side + taps - 1))


def _transform(image: NDArray[np.float32], taps: Kernel) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    rows, columns = taps.shape
    padded_height, padded_width = _padded(height, rows), _padded(width, columns)
    top, left = rows // 2, columns // 2
    spectrum = np.zeros((padded_height, padded_width), np.float32)
    # The kernel starts at the origin, so that a result belongs to the window that starts at its pixel;
    # the inverse transform's scale goes into the few taps rather than into every pixel.
    spectrum[:rows, :columns] = taps / spectrum.size
    cv2.dft(spectrum, dst=spectrum)
    filtered = []
    for channel in cv2.split(image):
        # More border than the kernel needs: the transform wraps around inside what is cut away.
        plane = cv2.copyMakeBorder(
            channel,
            top,
            padded_height - height - top,
            left,
            padded_width - width - left,
            cv2.BORDER_REFLECT_101,
        )
        cv2.dft(plane, dst=plane)
        cv2.mulSpectrums(plane, spectrum, 0, plane, conjB=True)
        cv2.dft(plane, dst=plane, flags=cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT)
        filtered.append(plane[:height, :width])
    return np.asarray(cv2.merge(filtered)).reshape(image.shape)

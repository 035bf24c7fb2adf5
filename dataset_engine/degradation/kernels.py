"""Blur kernels: the six families, sinc, motion trajectories and defocus disks.

Every kernel is float64 [h, w] with odd sides, sums to 1 and has its centre of mass in the middle, so
that blurring does not move the face.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation.parameters import (
    Blur,
    DefocusBlur,
    FamilyBlur,
    MotionBlur,
    SincBlur,
)
from dataset_engine.degradation.settings import Family

Kernel = NDArray[np.float64]
_SMALLEST_SIGMA = 1e-2  # px; a sigma of 0 is the identity, and so is this one on whole pixels
_TRAJECTORY_POINTS = 96
_BESSEL_POINTS = 64


def kernel(blur: Blur) -> Kernel:
    """The kernel that these parameters describe."""
    if isinstance(blur, FamilyBlur):
        return family_kernel(blur)
    if isinstance(blur, SincBlur):
        return sinc_kernel(blur)
    if isinstance(blur, MotionBlur):
        return motion_kernel(blur)
    return defocus_kernel(blur)


def family_kernel(blur: FamilyBlur) -> Kernel:
    """A Gaussian, generalized Gaussian exp(-q^beta / 2) or plateau 1 / (1 + q^beta).

    q is the squared distance in sigmas along the rotated axes.
    """
    offsets = _offsets(blur.size)
    cos, sin = math.cos(blur.rotation), math.sin(blur.rotation)
    along = (cos * offsets[None, :] + sin * offsets[:, None]) / max(blur.sigma_x, _SMALLEST_SIGMA)
    across = (cos * offsets[:, None] - sin * offsets[None, :]) / max(blur.sigma_y, _SMALLEST_SIGMA)
    q = along * along + across * across
    if blur.beta != 1:
        q = q**blur.beta
    plateau = blur.family in (Family.PLATEAU_ISO, Family.PLATEAU_ANISO)
    weights = 1 / (1 + q) if plateau else np.exp(-0.5 * q)
    return np.asarray(weights / weights.sum())


def sinc_kernel(blur: SincBlur) -> Kernel:
    """The circular low-pass w J1(w r) / (2 pi r), cut to the kernel's size (Real-ESRGAN, Eq. 6)."""
    offsets = _offsets(blur.size)[blur.size // 2 :]
    radius = np.hypot(offsets[:, None], offsets[None, :])
    radius[0, 0] = 1.0
    quadrant = blur.cutoff * _bessel_j1(blur.cutoff * radius) / (2 * math.pi * radius)
    quadrant[0, 0] = blur.cutoff**2 / (4 * math.pi)
    half = np.concatenate([quadrant[:0:-1], quadrant])
    weights = np.concatenate([half[:, :0:-1], half], axis=1)
    return np.asarray(weights / weights.sum())


def motion_kernel(blur: MotionBlur) -> Kernel:
    """A camera's random trajectory at constant speed, as long as `length`, drawn with soft pixels.

    The heading wanders as a Brownian walk that spreads by `bend` radians over the exposure.
    """
    steps = np.random.default_rng(blur.seed).standard_normal(_TRAJECTORY_POINTS)
    heading = blur.heading + np.cumsum(steps) * (blur.bend / math.sqrt(_TRAJECTORY_POINTS))
    stride = blur.length / _TRAJECTORY_POINTS
    x = np.cumsum(np.cos(heading)) * stride
    y = np.cumsum(np.sin(heading)) * stride
    x -= x.mean()
    y -= y.mean()
    reach_x, reach_y = (math.ceil(np.abs(axis).max()) for axis in (x, y))
    height, width = 2 * reach_y + 1, 2 * reach_x + 1
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right_share, low_share = x - left, y - top
    # One spare row and column take the (zero) share of points that lie on the far rim.
    flat = np.zeros((height + 1) * (width + 1))
    corner = (top + reach_y) * (width + 1) + left + reach_x
    for step, share in (
        (0, (1 - right_share) * (1 - low_share)),
        (1, right_share * (1 - low_share)),
        (width + 1, (1 - right_share) * low_share),
        (width + 2, right_share * low_share),
    ):
        flat += np.bincount(corner + step, weights=share, minlength=flat.size)
    return np.asarray(flat.reshape(height + 1, width + 1)[:height, :width] / _TRAJECTORY_POINTS)


def defocus_kernel(blur: DefocusBlur) -> Kernel:
    """A disk of confusion whose rim falls linearly from full to nothing over 2 x `edge` px."""
    reach = math.ceil(blur.radius + blur.edge)
    offsets = _offsets(2 * reach + 1)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    weights = np.clip((blur.radius + blur.edge - distance) / (2 * blur.edge), 0, 1)
    return np.asarray(weights / weights.sum())


def _offsets(size: int) -> NDArray[np.float64]:
    return np.arange(size, dtype=np.float64) - size // 2


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """J1 by its integral; the trapezoid rule converges beyond float32 for x under 50."""
    angles = (np.arange(_BESSEL_POINTS) + 0.5) * (math.pi / _BESSEL_POINTS)
    return np.asarray(np.cos(angles - x[..., None] * np.sin(angles)).mean(axis=-1))

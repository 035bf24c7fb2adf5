"""The degradation written plainly, as Real-ESRGAN's published code does it: the yardstick.

Every kernel stands in a 21x21 window (or its own size, if that is larger) and goes through
`cv2.filter2D`; noise is NumPy's, Poisson noise exact; images are float32 in 0-1 between the steps. It
takes the parameters that the engine drew, so that both make the same picture but for the noise's own
values. Nothing of the fast path is used here.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from dataset_engine.degradation.parameters import (
    Blur,
    DefocusBlur,
    FamilyBlur,
    MotionBlur,
    Noise,
    Parameters,
    PoissonNoise,
    SincBlur,
)
from dataset_engine.degradation.settings import Interpolation

Kernel = NDArray[np.float64]
Floats = NDArray[np.float32]
WINDOW = 21
INTERPOLATIONS = {
    Interpolation.AREA: cv2.INTER_AREA,
    Interpolation.BILINEAR: cv2.INTER_LINEAR,
    Interpolation.BICUBIC: cv2.INTER_CUBIC,
}


def plain_kernel(blur: Blur) -> Kernel:
    """The kernel of any blur, by its definition."""
    if isinstance(blur, FamilyBlur):
        return _family(blur)
    if isinstance(blur, SincBlur):
        return _sinc(blur)
    if isinstance(blur, MotionBlur):
        return _motion(blur)
    assert isinstance(blur, DefocusBlur)
    return _defocus(blur)


def _family(blur: FamilyBlur) -> Kernel:
    axis = np.arange(blur.size) - (blur.size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    cos, sin = math.cos(blur.rotation), math.sin(blur.rotation)
    turn = np.array([[cos, -sin], [sin, cos]])
    spread = np.diag([max(blur.sigma_x, 0.01) ** 2, max(blur.sigma_y, 0.01) ** 2])
    inverse = np.linalg.inv(turn @ spread @ turn.T)
    grid = np.stack([x, y], axis=-1)
    q = np.einsum("...i,ij,...j->...", grid, inverse, grid) ** blur.beta
    plateau = blur.family.startswith("plateau")
    weights = 1 / (q + 1) if plateau else np.exp(-0.5 * q)
    return weights / weights.sum()


def _sinc(blur: SincBlur) -> Kernel:
    centre = (blur.size - 1) / 2

    def weight(x: float, y: float) -> float:
        distance = math.hypot(x - centre, y - centre)
        if distance == 0:
            return blur.cutoff**2 / (4 * math.pi)
        return blur.cutoff * j1(blur.cutoff * distance) / (2 * math.pi * distance)

    weights = np.fromfunction(np.vectorize(weight), (blur.size, blur.size))
    return weights / weights.sum()


def _motion(blur: MotionBlur) -> Kernel:
    points = 96
    steps = np.random.default_rng(blur.seed).standard_normal(points)
    position, heading, path = np.zeros(2), blur.heading, []
    for step in steps:
        heading += step * blur.bend / math.sqrt(points)
        position = (
            position + np.array([math.cos(heading), math.sin(heading)]) * blur.length / points
        )
        path.append(position)
    path = np.array(path) - np.mean(path, axis=0)
    reach = math.ceil(np.abs(path).max())
    weights = np.zeros((2 * reach + 3, 2 * reach + 3))
    for x, y in path:
        left, top = math.floor(x), math.floor(y)
        for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            share = (1 - abs(x - column)) * (1 - abs(y - row))
            weights[row + reach + 1, column + reach + 1] += share / points
    return weights


def _defocus(blur: DefocusBlur) -> Kernel:
    reach = math.ceil(blur.radius + blur.edge)
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            inside = (blur.radius + blur.edge - math.hypot(row, column)) / (2 * blur.edge)
            weights[row + reach, column + reach] = min(1.0, max(0.0, inside))
    return weights / weights.sum()


def plain_filter(image: Floats, kernel: Kernel) -> Floats:
    """Filters with the kernel in its window; image float32 [H, W, 3]."""
    margin = [max(0, (WINDOW - side) // 2) for side in kernel.shape]
    window = np.pad(kernel, [(side, side) for side in margin])
    return cv2.filter2D(image, -1, window, borderType=cv2.BORDER_REFLECT_101)


def plain_noise(image: Floats, noise: Noise) -> Floats:
    """Adds noise to an RGB image in 0-1, as Real-ESRGAN does, and clips."""
    rng = np.random.default_rng(noise.seed)
    if isinstance(noise, PoissonNoise):
        base = image @ [0.299, 0.587, 0.114] if noise.gray else image
        base = np.clip(np.round(base * 255), 0, 255) / 255
        levels = 2 ** math.ceil(math.log2(len(np.unique(base))))
        field = (rng.poisson(base * levels) / levels - base) * noise.scale
    else:
        shape = image.shape[:2] if noise.gray else image.shape
        field = rng.normal(0, noise.sigma / 255, shape)
    noisy = image + (field[..., None] if noise.gray else field)
    return np.clip(noisy, 0, 1).astype(np.float32)


def plain_jpeg(image: Floats, quality: int) -> Floats:
    """Compresses an RGB image in 0-1 and reads it back."""
    levels = np.clip(np.round(image[..., ::-1] * 255), 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def plain_resize(image: Floats, height: int, width: int, interpolation: Interpolation) -> Floats:
    """Resizes to the size asked for."""
    return cv2.resize(image, (width, height), interpolation=INTERPOLATIONS[interpolation])


def plain_apply(image: NDArray[np.uint8], parameters: Parameters) -> NDArray[np.uint8]:
    """I_LQ by the plain operations: uint8 RGB in and out."""
    work = image.astype(np.float32) / 255
    for number, stage in enumerate(parameters.stages, start=1):
        if stage.blur is not None:
            work = plain_filter(work, plain_kernel(stage.blur))
        work = plain_resize(work, stage.height, stage.width, stage.interpolation)
        if stage.noise is not None:
            work = plain_noise(work, stage.noise)
        if number < len(parameters.stages):
            work = plain_jpeg(work, stage.jpeg)
    final, quality = parameters.final, parameters.stages[-1].jpeg
    if not final.before_jpeg:
        work = plain_jpeg(work, quality)
    work = plain_resize(work, final.height, final.width, final.interpolation)
    if final.sinc is not None:
        work = plain_filter(work, plain_kernel(final.sinc))
    if final.before_jpeg:
        work = plain_jpeg(work, quality)
    work = plain_resize(work, image.shape[0], image.shape[1], Interpolation.BICUBIC)
    return np.clip(np.round(work * 255), 0, 255).astype(np.uint8)

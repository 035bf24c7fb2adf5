"""Smooth fields over the canonical canvas, and the few drawing tools that all layers share.

The canonical canvas is a frontal face in the coordinates of the 512x512 alignment template, with a
margin around it. Layers are painted there once and carried into each shot by geometry, so that the
texture of a face is the same in all of its shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Field: TypeAlias = NDArray[np.floating[Any]]  # float32 wherever an image is large
Mask: TypeAlias = NDArray[np.bool_]

SIZE = 512
MARGIN = 32
CANVAS = SIZE + 2 * MARGIN
SHIFT = 4  # fractional bits of OpenCV's polygon coordinates
ONE = float(1 << SHIFT)


def grid(step: int = 1) -> tuple[Field, Field]:
    """Canonical x [1, W] and y [H, 1] in px of the canvas pixels, `step` canvas pixels apart."""
    axis = np.arange(CANVAS // step, dtype=np.float32) * step + (step - 1) / 2 - MARGIN
    return axis[None, :], axis[:, None]


def smoothstep(low: float | Field, high: float | Field, value: Field) -> Field:
    """0 below `low`, 1 above `high`, a smooth cubic between; `low` > `high` turns it around."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def gauss(x: Field, y: Field, cx: float, cy: float, sx: float, sy: float) -> Field:  # noqa: PLR0917
    """An axis-aligned Gaussian of height 1; separable, so it costs one product per pixel."""
    across = np.exp(-0.5 * ((x - cx) / sx) ** 2)
    down = np.exp(-0.5 * ((y - cy) / sy) ** 2)
    return np.asarray(across * down, np.float32)


def pair(x: Field, y: Field, cx: float, cy: float, sx: float, sy: float) -> Field:  # noqa: PLR0917
    """Two Gaussians, `cx` px to either side of the face's middle line."""
    return gauss(x, y, 256 - cx, cy, sx, sy) + gauss(x, y, 256 + cx, cy, sx, sy)


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur of a float32 field [H, W] or [H, W, C]."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def soft_blur(field: Field, sigma: float) -> Field:
    """A wide Gaussian blur, made at a quarter of the size."""
    height, width = field.shape[:2]
    small = cv2.resize(field, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return resize(np.asarray(small, np.float32), (width, height))


def resize(field: Field, size: tuple[int, int], cubic: bool = False) -> Field:
    """Resize to (width, height)."""
    how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(field, size, interpolation=how), np.float32)


def sample(field: Field, x: Field, y: Field, cubic: bool = False) -> Field:
    """Read a field at pixel coordinates (x, y); zero outside."""
    how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return np.asarray(cv2.remap(field, x, y, how, borderMode=cv2.BORDER_CONSTANT), np.float32)


def noise(rng: np.random.Generator, cell: float, octaves: int = 1, size: int = CANVAS) -> Field:
    """Value noise [size, size], about N(0, 1): cells of `cell` px, each octave half as wide."""
    total = np.zeros((size, size), np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        cells = max(4, int(np.ceil(size / cell)) + 3)
        coarse = rng.standard_normal((cells, cells), np.float32)
        extent = round((cells - 1) * cell)
        fine = resize(coarse, (max(extent, size), max(extent, size)), cubic=True)
        total += weight * fine[:size, :size]
        power += weight**2
        weight, cell = weight * 0.6, max(1.0, cell / 2)
    return np.asarray(total / np.sqrt(power * 0.6), np.float32)


def curve(points: ArrayLike, samples: int = 12, closed: bool = False) -> Field:
    """A Catmull-Rom curve [N, 2] through points [K, 2]; `samples` per span."""
    p = np.asarray(points, np.float32)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, samples, endpoint=False, dtype=np.float32)[None, :, None]
    p0, p1, p2, p3 = (p[i : len(p) - 3 + i, None] for i in range(4))
    spans = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    line = spans.reshape(-1, 2)
    return np.asarray(line if closed else np.concatenate([line, p[-2:-1]]), np.float32)


def fill(
    polygons: Sequence[Field], size: tuple[int, int] = (CANVAS, CANVAS), offset: float = MARGIN
) -> Field:
    """Antialiased coverage [H, W] in [0, 1] of closed polygons [N, 2] (x, y)."""
    image = np.zeros((size[1], size[0]), np.uint8)
    for polygon in polygons:
        fixed = np.round((polygon + offset) * ONE).astype(np.int32)
        cv2.fillPoly(image, [fixed], 255, cv2.LINE_AA, SHIFT)
    return np.asarray(image, np.float32) / np.float32(255)


def lines(
    strokes: Sequence[Field],
    thickness: int = 1,
    size: tuple[int, int] = (CANVAS, CANVAS),
    offset: float = MARGIN,
) -> Field:
    """Antialiased coverage [H, W] in [0, 1] of open polylines [N, 2] (x, y)."""
    image = np.zeros((size[1], size[0]), np.uint8)
    fixed = [np.round((stroke + offset) * ONE).astype(np.int32) for stroke in strokes]
    cv2.polylines(image, fixed, False, 255, thickness, cv2.LINE_AA, SHIFT)
    return np.asarray(image, np.float32) / np.float32(255)


def rgb(field: Field) -> Field:
    """A field [H, W] three times over [H, W, 3]; far quicker to multiply by than a broadcast."""
    return np.asarray(cv2.merge((field, field, field)), np.float32)


def tinted(field: Field, colour: Field) -> Field:
    """A field [H, W] times a colour [3], as [H, W, 3]."""
    return np.asarray(cv2.merge([field * np.float32(c) for c in colour]), np.float32)


def split(layer: Field) -> tuple[Field, Field]:
    """Colour [H, W, 3] and cover [H, W] of a layer [H, W, 4]."""
    channels = cv2.split(layer)
    return np.asarray(cv2.merge(channels[:3]), np.float32), np.asarray(channels[3], np.float32)


def glaze(colour: Field, cover: Field, paint: Field) -> None:
    """Mix a paint [3] into a picture [H, W, 3] in place, as far as it covers [H, W]."""
    colour *= rgb(1 - cover)
    colour += tinted(cover, paint)


def disk(radius: int) -> NDArray[np.uint8]:
    """A round structuring element."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(element, np.uint8)


def grow(mask: Mask, radius: int) -> Mask:
    """Dilate by `radius` px."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk(radius)) > 0)


def close(mask: Mask, radius: int) -> Mask:
    """Fill gaps up to `2 * radius` px wide, as a person's brush would."""
    padded = cv2.copyMakeBorder(
        mask.astype(np.uint8), radius, radius, radius, radius, cv2.BORDER_CONSTANT
    )
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk(radius))
    return np.asarray(closed[radius:-radius, radius:-radius] > 0)


def linear(rgb: ArrayLike) -> Field:
    """Linear light of sRGB values 0..255."""
    return np.asarray((np.asarray(rgb, np.float32) / 255) ** np.float32(2.2), np.float32)

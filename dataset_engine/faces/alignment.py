"""FFHQ-style alignment: five points onto a 512x512 template by a least-squares similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZE: Final = 512
"""Side of an aligned image, px."""

TEMPLATE: Final[NDArray[np.float64]] = np.array(
    [
        [192.98138, 239.94708],  # eye on the image's left
        [318.90277, 240.19360],  # eye on the image's right
        [256.63416, 314.01935],  # tip of the nose
        [201.26117, 371.41043],  # corner of the mouth on the image's left
        [313.08905, 371.15118],  # corner of the mouth on the image's right
    ]
)
"""Where the five points lie on an aligned image: float64 [5, 2], (x, y) px (FFHQ at 512)."""
TEMPLATE.setflags(write=False)

IDENTITY_TOLERANCE: Final = 0.5
"""Largest displacement, px, at which a similarity still counts as the identity."""


class DegeneratePoints(ValueError):  # noqa: N818 - it names a finding
    """Points from which no similarity can be found: not finite, or all in one place."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """An aligned image and the way from the source to it."""

    image: NDArray[np.uint8]
    """uint8 RGB [512, 512, 3]."""
    matrix: NDArray[np.float64]
    """float64 [2, 3]: source (x, y) px to aligned (x, y) px."""
    scale: float
    """Aligned px for one source px; above 1 the face was enlarged."""
    inside: NDArray[np.bool_]
    """bool [512, 512]: pixels that come from the source; the others are a blurred reflection."""


def similarity(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The similarity (rotation, uniform scale, shift; no mirroring) nearest in least squares.

    Umeyama's closed form in two dimensions.

    Args:
        source: [N, 2] points, N >= 2.
        target: [N, 2] points.

    Returns:
        float64 [2, 3] taking source to target.

    Raises:
        DegeneratePoints: a point is not finite, or all source or all target points coincide.
    """
    src, dst = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise DegeneratePoints("a point is not finite")
    src_mean, dst_mean = src.mean(axis=0), dst.mean(axis=0)
    # Points as complex numbers: rotation and scale are then one factor, and cannot mirror.
    a, b = (src - src_mean) @ np.array([1, 1j]), (dst - dst_mean) @ np.array([1, 1j])
    spread = float(np.vdot(a, a).real)
    factor = complex(np.vdot(a, b)) / spread if spread > 1e-9 else 0j
    if abs(factor) < 1e-9:
        raise DegeneratePoints("the points lie in one place")
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def transform_points(points: ArrayLike, matrix: ArrayLike) -> NDArray[np.float32]:
    """Takes points [N, 2] through an affine matrix [2, 3]; float32 [N, 2]."""
    affine = np.asarray(matrix, dtype=np.float64)
    return (np.asarray(points, dtype=np.float64) @ affine[:, :2].T + affine[:, 2]).astype(
        np.float32
    )


def displacement(matrix: ArrayLike) -> float:
    """How far an affine matrix moves any pixel of a 512x512 image at most, px."""
    corners = np.array([[0, 0], [SIZE - 1, 0], [0, SIZE - 1], [SIZE - 1, SIZE - 1]])
    moved = transform_points(corners, matrix)  # an affine map moves a corner the most
    return float(np.linalg.norm(moved - corners, axis=1).max())


def align(
    image: NDArray[np.uint8], five_points: ArrayLike, tolerance: float = IDENTITY_TOLERANCE
) -> Aligned:
    """Brings a face to the template.

    An image that is 512x512 and that the similarity would move by no more than `tolerance` px
    anywhere is returned as it is, so that aligned pictures keep their exact pixels. A large
    face is first reduced by area averaging, so that it does not alias; a small one is enlarged
    by cubic interpolation. Outside the source the picture is reflected and blurred, as in FFHQ.

    Args:
        image: uint8 RGB [H, W, 3].
        five_points: [5, 2] (x, y) px on `image`.
        tolerance: px, see above.

    Returns:
        the aligned image; when it was not warped, `matrix` is the identity.

    Raises:
        DegeneratePoints: no similarity can be found.
    """
    matrix = similarity(five_points, TEMPLATE)
    height, width = image.shape[:2]
    if (height, width) == (SIZE, SIZE) and displacement(matrix) <= tolerance:
        everything = np.ones((SIZE, SIZE), dtype=np.bool_)
        return Aligned(image, np.eye(2, 3), 1.0, everything)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    reduced, reduction = _reduce(image, min(scale, 1.0))
    warp = matrix @ np.vstack([np.linalg.inv(reduction)[:2], [0, 0, 1]])
    warped = cv2.warpAffine(
        reduced, warp, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    inside = warp_mask(np.ones(reduced.shape[:2], dtype=np.bool_), warp)
    return Aligned(_soften_outside(warped, inside), matrix, scale, inside)


def warp_mask(mask: NDArray[np.bool_], matrix: ArrayLike) -> NDArray[np.bool_]:
    """Takes a mask bool [H, W] through an affine matrix onto bool [512, 512]; outside is False."""
    affine = np.asarray(matrix, dtype=np.float64)
    scale = float(np.hypot(affine[0, 0], affine[1, 0]))
    coverage, reduction = _reduce(mask.astype(np.uint8) * 255, min(scale, 1.0))
    warp = affine @ np.vstack([np.linalg.inv(reduction)[:2], [0, 0, 1]])
    warped = cv2.warpAffine(coverage, warp, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(warped > 127, dtype=np.bool_)


def _reduce(
    image: NDArray[np.uint8], scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Reduces by area averaging; returns the image and the matrix [3, 3] onto its pixels."""
    height, width = image.shape[:2]
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    if (new_width, new_height) == (width, height):
        return image, np.eye(3)
    reduced = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    sx, sy = new_width / width, new_height / height
    # Pixel centres lie at whole numbers, so a scaled image also shifts by half a pixel.
    matrix = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return np.asarray(reduced, dtype=np.uint8), matrix


def _soften_outside(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Blurs what is not from the source, more with the distance from its edge, as FFHQ does."""
    if inside.all() or not inside.any():
        return image
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    weight = np.clip(away / 40.0, 0.0, 1.0)[..., None]
    blurred = cv2.GaussianBlur(image, (0, 0), 10.0, borderType=cv2.BORDER_REFLECT)
    mixed = image + (blurred.astype(np.float32) - image) * weight
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)

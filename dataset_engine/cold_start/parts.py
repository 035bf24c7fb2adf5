"""The parts of a face as whole areas on an aligned image, from its 478-point mesh.

Left and right are the image's. Areas overlap where faces do (glasses lie over the eyes): the order of
`Part` says which is meant at a point, the smallest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

LEFT_EYE: Final = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE: Final = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
LIPS: Final = (
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
)  # fmt: skip
_LEFT_BROW: Final = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
_RIGHT_BROW: Final = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_LEFT_FOLD: Final = (129, 203, 206, 216, 212, 202)
_RIGHT_FOLD: Final = (358, 423, 426, 436, 432, 422)
_NOSE: Final = (
    168, 122, 196, 236, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 456,
    419, 351,
)  # fmt: skip
_GLASSES: Final = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 356, 447, 345, 346, 347, 348, 349, 6, 120, 119,
    118, 117, 116, 227, 127,
)  # fmt: skip
_CHIN: Final = (
    58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 434, 432, 426, 327, 2,
    98, 206, 212, 214,
)  # fmt: skip
_LEFT_CHEEK: Final = (
    116, 117, 118, 119, 120, 47, 126, 129, 203, 206, 212, 214, 58, 132, 93, 234,
)  # fmt: skip
_RIGHT_CHEEK: Final = (
    345, 346, 347, 348, 349, 277, 355, 358, 423, 426, 432, 434, 288, 361, 323, 454,
)  # fmt: skip
_FOREHEAD: Final = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 301, 251, 284, 332, 297, 338, 10, 109, 67, 103,
    54, 21, 71,
)  # fmt: skip


class Part(StrEnum):
    """A part of the face that a person points at as a whole; a smaller part comes before a larger."""

    MOUTH = "mouth"
    LEFT_EYE = "left eye"
    RIGHT_EYE = "right eye"
    LEFT_BROW = "left brow"
    RIGHT_BROW = "right brow"
    LEFT_FOLD = "left nasolabial fold"
    RIGHT_FOLD = "right nasolabial fold"
    NOSE = "nose"
    GLASSES = "glasses"
    CHIN = "chin and beard"
    LEFT_CHEEK = "left cheek"
    RIGHT_CHEEK = "right cheek"
    FOREHEAD = "forehead"


def eye_distance(landmarks: NDArray[np.float32]) -> float:
    """Distance of the middles of both eyes, px; the measure of every size here."""
    left, right = landmarks[list(LEFT_EYE)].mean(axis=0), landmarks[list(RIGHT_EYE)].mean(axis=0)
    return max(float(np.linalg.norm(right - left)), 1.0)


def facial_parts(landmarks: NDArray[np.float32], region: Mask) -> dict[Part, Mask]:
    """The area of every part, inside the face region.

    Args:
        landmarks: float32 [478, 2], (x, y) px on the image.
        region: bool [H, W], the image's face region.

    Returns:
        bool [H, W] a part, in the order of `Part`; a part that the region lacks is left out.
    """
    unit = eye_distance(landmarks)
    shape = region.shape
    areas = {
        Part.MOUTH: grown(_polygon(landmarks, LIPS, shape), 0.05 * unit),
        Part.LEFT_EYE: _eye(landmarks, LEFT_EYE, shape, unit),
        Part.RIGHT_EYE: _eye(landmarks, RIGHT_EYE, shape, unit),
        Part.LEFT_BROW: grown(_polygon(landmarks, _LEFT_BROW, shape), 0.05 * unit),
        Part.RIGHT_BROW: grown(_polygon(landmarks, _RIGHT_BROW, shape), 0.05 * unit),
        Part.LEFT_FOLD: _line(landmarks, _LEFT_FOLD, shape, 0.16 * unit),
        Part.RIGHT_FOLD: _line(landmarks, _RIGHT_FOLD, shape, 0.16 * unit),
        Part.NOSE: _polygon(landmarks, _NOSE, shape),
        Part.GLASSES: grown(_hull(landmarks, _GLASSES, shape), 0.06 * unit),
        Part.CHIN: _polygon(landmarks, _CHIN, shape),
        Part.LEFT_CHEEK: _polygon(landmarks, _LEFT_CHEEK, shape),
        Part.RIGHT_CHEEK: _polygon(landmarks, _RIGHT_CHEEK, shape),
        Part.FOREHEAD: _polygon(landmarks, _FOREHEAD, shape),
    }
    # whoever points at the chin does not mean the mouth, and glasses reach over eyes and brows only
    areas[Part.CHIN] &= ~areas[Part.MOUTH]
    inside = {part: area & region for part, area in areas.items()}
    return {part: area for part, area in inside.items() if area.any()}


def part_at(parts: Mapping[Part, Mask], x: float, y: float) -> Part | None:
    """The part that is meant by a point (px), or None where there is none."""
    row, column = int(y), int(x)
    for part in Part:
        area = parts.get(part)
        if area is None or not (0 <= row < area.shape[0] and 0 <= column < area.shape[1]):
            continue
        if area[row, column]:
            return part
    return None


def grown(mask: Mask, reach: float) -> Mask:
    """The mask and all that is within `reach` px of it."""
    radius = max(round(reach), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.view(np.uint8), disc), dtype=np.bool_)


def _eye(
    landmarks: NDArray[np.float32], eye: tuple[int, ...], shape: tuple[int, ...], unit: float
) -> Mask:
    """The lids and what is between them; a closed eye's lids are as tall as an open eye's."""
    points = landmarks[list(eye)]
    centre = points.mean(axis=0)
    along = landmarks[eye[8]] - landmarks[eye[0]]
    half = 0.5 * float(np.linalg.norm(along)) + 0.08 * unit
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    area = np.zeros(shape, np.uint8)
    middle = (round(float(centre[0])), round(float(centre[1])))
    cv2.ellipse(area, middle, (round(half), round(0.17 * unit)), angle, 0, 360, 1, cv2.FILLED)
    return area.astype(np.bool_)


def _polygon(
    landmarks: NDArray[np.float32], indices: tuple[int, ...], shape: tuple[int, ...]
) -> Mask:
    return _filled(landmarks[list(indices)], shape)


def _hull(landmarks: NDArray[np.float32], indices: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    return _filled(cv2.convexHull(landmarks[list(indices)])[:, 0], shape)


def _filled(points: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    area = np.zeros(shape, np.uint8)
    cv2.fillPoly(area, [np.rint(points * 16).astype(np.int32)], 1, shift=4)
    return area.astype(np.bool_)


def _line(
    landmarks: NDArray[np.float32], indices: tuple[int, ...], shape: tuple[int, ...], width: float
) -> Mask:
    area = np.zeros(shape, np.uint8)
    points = np.rint(landmarks[list(indices)]).astype(np.int32)
    cv2.polylines(area, [points], isClosed=False, color=1, thickness=max(round(width), 1))
    return area.astype(np.bool_)

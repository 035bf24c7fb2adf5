"""What two meshes say of the expression: an open mouth, closed eyes, a smile; none needs a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_engine.cold_start.parts import eye_distance
from dataset_engine.taxonomy import Conflict

MOUTH_DIFFERS: Final = 0.024
"""Difference in lip opening from which people call it a mouth conflict: 97 % of 72 real pairs, which
two people each had judged, are told as they did."""
EYES_DIFFER: Final = 0.12
"""Difference in eye opening; an open eye has about 0.3, a closed one 0.1 or less."""
SMILE_DIFFERS: Final = 0.06
"""Difference in smile from which the folds around the mouth may differ."""

_UPPER_LIP, _LOWER_LIP, _LEFT_CORNER, _RIGHT_CORNER = 13, 14, 61, 291
_LIDS: Final = (((159, 145), (158, 153), (33, 133)), ((386, 374), (385, 380), (362, 263)))


@dataclass(frozen=True)
class Expression:
    """Measures of one face, each free of the picture's scale.

    Attributes:
        lip_opening: gap between the inner lips over the mouth's width.
        eye_openings: gap between the lids over the eye's width, of the image's left and right eye.
        smile: the mouth's width, and how far its corners are above its middle, in eye distances.
    """

    lip_opening: float
    eye_openings: tuple[float, float]
    smile: float


def expression(landmarks: NDArray[np.float32]) -> Expression:
    """Measure a mesh, float32 [478, 2] (x, y) px."""
    unit = eye_distance(landmarks)
    width = _distance(landmarks, _LEFT_CORNER, _RIGHT_CORNER)
    corners = landmarks[[_LEFT_CORNER, _RIGHT_CORNER]].mean(axis=0)
    middle = landmarks[[_UPPER_LIP, _LOWER_LIP]].mean(axis=0)
    eyes = [
        sum(_distance(landmarks, *gap) for gap in (first, second))
        / (2 * max(_distance(landmarks, *corner), 1e-6))
        for first, second, corner in _LIDS
    ]
    return Expression(
        lip_opening=_distance(landmarks, _UPPER_LIP, _LOWER_LIP) / max(width, 1e-6),
        eye_openings=(eyes[0], eyes[1]),
        smile=(width + float(middle[1] - corners[1])) / unit,
    )


def differing(gt: Expression, reference: Expression) -> frozenset[Conflict]:
    """The dynamic conflicts between two expressions."""
    found = set()
    if abs(gt.lip_opening - reference.lip_opening) > MOUTH_DIFFERS:
        found.add(Conflict.MOUTH)
    openings = zip(gt.eye_openings, reference.eye_openings, strict=True)
    if max(abs(a - b) for a, b in openings) > EYES_DIFFER:
        found.add(Conflict.EYES)
    if abs(gt.smile - reference.smile) > SMILE_DIFFERS:
        found.add(Conflict.WRINKLES)
    return frozenset(found)


def _distance(landmarks: NDArray[np.float32], first: int, second: int) -> float:
    return float(np.linalg.norm(landmarks[first] - landmarks[second]))

"""What the 478-point mesh says of the face's outline, as masks on a reduced image."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

WORK: Final = 256
"""Side of the image on which the face region is found, px; half of the aligned size."""

_OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_BROWS: Final = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
_EYES: Final = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
_CHEEKS_AND_NOSE: Final = (
    168, 193, 245, 128, 120, 119, 118, 117, 123, 147, 187, 205, 203, 98, 97, 2, 326, 327, 423, 425,
    411, 376, 352, 346, 347, 348, 349, 357, 465, 417,
)  # fmt: skip
_TOP, _CHIN, _NOSE_BASE = 10, 152, 2

_LIFT: Final = 0.25
"""How far above the mesh a bald forehead reaches, in mesh heights."""


class Outline:
    """Masks bool [WORK, WORK] from a mesh [478, 2] in px of an image `size` px wide."""

    def __init__(self, landmarks: NDArray[np.float32], size: int) -> None:
        self._points = (landmarks.astype(np.float64) + 0.5) * (WORK / size) - 0.5
        self._eyes = self._points[[i for eye in _EYES for i in eye]].mean(axis=0)
        axis = self._points[_TOP] - self._points[_CHIN]
        self.height = max(float(np.linalg.norm(axis)), 1e-6)
        """From the chin to the top of the mesh, px of WORK."""
        self._up = axis / self.height

    def rise(self) -> NDArray[np.float64]:
        """How far each pixel lies above the eyes, in mesh heights: float64 [WORK, WORK]."""
        y, x = np.mgrid[:WORK, :WORK]
        return np.asarray(
            ((x - self._eyes[0]) * self._up[0] + (y - self._eyes[1]) * self._up[1]) / self.height
        )

    def ceiling(self) -> NDArray[np.bool_]:
        """The oval, raised above the eyes to where the forehead of a bald head would end."""
        oval = self._points[list(_OVAL)]
        above = self._above(oval)
        share = np.clip(above / max(float(above.max()), 1e-6), 0, 1) ** 0.8
        return _polygon(oval + self._up * (_LIFT * self.height * share)[:, None])

    def below_brows(self, strip: float) -> NDArray[np.bool_]:
        """The oval up to the brows, without a strip of `strip` half widths along either cheek.

        The strip narrows below the nose and is gone at the chin, where no hair falls.
        """
        oval = self._points[list(_OVAL)]
        across = np.array([-self._up[1], self._up[0]])
        nose = min(float(self._above(self._points[_NOSE_BASE])), -1e-6)
        low = np.clip((self._above(oval) - nose) / nose, 0, 1)
        away = (oval - self._eyes) @ across
        mask = _polygon(oval - across * (away * strip * (1 - low))[:, None])
        return mask & (self.rise() < self._brow_rise()) | self.parts()

    def forehead(self) -> NDArray[np.bool_]:
        """The oval from the brows up, as far as the mesh reaches."""
        return _polygon(self._points[list(_OVAL)]) & (self.rise() >= self._brow_rise())

    def parts(self) -> NDArray[np.bool_]:
        """Eyes and brows."""
        mask = np.zeros((WORK, WORK), dtype=np.bool_)
        for part in (*_EYES, *_BROWS):
            mask |= _polygon(self._points[list(part)])
        return mask

    def cheeks_and_nose(self) -> NDArray[np.bool_]:
        """Where skin is bare on almost everybody: below the eyes, above the mouth."""
        return _polygon(self._points[list(_CHEEKS_AND_NOSE)])

    def _above(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((points - self._eyes) @ self._up)

    def _brow_rise(self) -> float:
        brows = self._points[[i for brow in _BROWS for i in brow]]
        return float(self._above(brows).mean()) / self.height


def _polygon(vertices: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros((WORK, WORK), dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(vertices * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(np.bool_)

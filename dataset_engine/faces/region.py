"""The face region of an aligned image: skin and facial parts, without hair and background.

The mesh gives the outline. It is exact along the jaw and stops short of the hairline, so above
the brows the outline is raised as far as a bald forehead would reach, and where hair lies beside
the cheeks a strip inside the outline is in doubt. What of the doubtful part is face is decided by
colour (`skin`) and a graph cut. Nothing is learned from anybody else's skin, so its shade does
not matter.

Inside: skin, brows, eyes, nose, lips, the open mouth, beard, glasses. Outside: hair, ears, neck,
hats, background. A hand or an object over the lower face stays inside: nothing here knows it.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces import skin
from dataset_engine.faces.outline import WORK, Outline

_UNLIKE: Final = 9.0
"""Squared Mahalanobis distance within which a colour may well be skin: three deviations."""
_UNLIKELY: Final = 16.0
"""The same, from which a colour is surely not: four deviations."""
_CUT_MARGIN: Final = 24
"""How much of the surroundings the cut sees above the forehead and beside it, px of WORK."""


def face_region(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    person: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """The face region of an aligned image.

    Args:
        image: uint8 RGB [512, 512, 3].
        landmarks: float32 [478, 2] (x, y) px, the mesh on `image`.
        person: float32 [512, 512], how likely each pixel belongs to a person, 0 to 1: keeps
            background apart from hair. None when it is not known.

    Returns:
        bool [512, 512], one piece without holes or specks. The same input gives the same mask.
    """
    small = np.asarray(cv2.resize(image, (WORK, WORK), interpolation=cv2.INTER_AREA), np.uint8)
    human = np.ones((WORK, WORK), dtype=np.float32)
    if person is not None:
        human = np.asarray(cv2.resize(person, (WORK, WORK), interpolation=cv2.INTER_AREA))
    outline = Outline(landmarks, image.shape[0])
    ceiling, rise = outline.ceiling(), outline.rise()
    core = outline.below_brows(strip=0.16)

    lit = skin.evenly_lit(small, outline.cheeks_and_nose(), core)
    lab = cv2.cvtColor(lit, cv2.COLOR_RGB2LAB).astype(np.float32)
    unlike_skin = skin.distance(lab, outline.cheeks_and_nose())
    around = ~ceiling & (human > 0.5)
    hair, unlike_hair = _hair(lab, around & (rise > 0.05), unlike_skin)

    # Cheeks are in doubt only where hair lies beside them; a beard there would be lost otherwise.
    sure = core | (outline.below_brows(strip=0.02) & ~_near(hair & around, 0.09 * outline.height))
    # A highlight is unlike the cheeks, but still far more unlike the hair.
    bare = unlike_skin < np.maximum(np.minimum(unlike_hair, _UNLIKELY), unlike_hair / 3)
    forehead = outline.forehead() & bare & (unlike_skin < 3 * _UNLIKELY)
    sure |= _opened(forehead, 5)

    painted = skin.paint_over(lit, sure & (unlike_skin > _UNLIKE), outline.parts(), sure)
    possible = ceiling & (sure | (human > 0.1) | (rise < 0.05))
    cut = _cut(painted, sure, possible, unlike_skin, rise)
    face = _one_piece(cut & possible, sure)
    face |= _closed(face, 21) & ceiling & (rise < 0.15)
    return _smooth(face, image.shape[0])


def _hair(
    lab: NDArray[np.float32], around: NDArray[np.bool_], unlike_skin: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Where hair (or a hat) is, judged by what surrounds the forehead, and the distance from it.

    A bald head has nothing of the kind: no hair then, and every pixel infinitely far from it.
    """
    seeds = around & (unlike_skin > _UNLIKELY)
    if seeds.sum() < 200:
        return np.zeros_like(around), np.full(around.shape, np.inf, dtype=np.float32)
    unlike_hair = skin.distance(lab, seeds)
    return _opened((unlike_hair < _UNLIKE) & (unlike_skin > _UNLIKE), 5), unlike_hair


def _cut(
    image: NDArray[np.uint8],
    sure: NDArray[np.bool_],
    possible: NDArray[np.bool_],
    unlike_skin: NDArray[np.float32],
    rise: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Divides the doubtful part between face and surroundings by a graph cut (GrabCut)."""
    marks = np.full(sure.shape, cv2.GC_BGD, dtype=np.uint8)
    likely = unlike_skin < _UNLIKE
    # Skin outside (a bald crown, ears) says nothing about hair: it is left undecided.
    marks[~possible & likely] = cv2.GC_PR_FGD
    marks[possible] = np.where(likely[possible], cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    marks[sure] = cv2.GC_FGD
    # Collar and neck say nothing about hair either: the cut sees the upper head only.
    rows = np.flatnonzero((possible & (rise > -0.35)).any(axis=1))
    columns = np.flatnonzero(possible.any(axis=0))
    area = (
        slice(max(0, rows[0] - _CUT_MARGIN), rows[-1] + 1),
        slice(max(0, columns[0] - _CUT_MARGIN), columns[-1] + _CUT_MARGIN + 1),
    )
    part = np.ascontiguousarray(marks[area])
    if np.count_nonzero(part == cv2.GC_BGD) < 50:  # nothing but skin all round: a bald head
        return sure | (possible & (unlike_skin < _UNLIKELY))
    cv2.setRNGSeed(0)  # its k-means draws; the same picture must give the same region
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image[area]), part, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    marks[area] = part
    return np.asarray((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD), dtype=np.bool_)


def _near(mask: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Pixels no further than `reach` px from the mask."""
    if not mask.any():
        return mask
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(away <= reach, dtype=np.bool_)


def _opened(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    square = np.ones((size, size), dtype=np.uint8)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, square)
    return np.asarray(opened, dtype=np.bool_)


def _closed(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    padded = np.pad(mask.astype(np.uint8), size)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)
    return np.asarray(closed[size:-size, size:-size], dtype=np.bool_)


def _one_piece(face: NDArray[np.bool_], sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The piece that holds most of the sure part, without spurs and with its holes filled."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    opened = cv2.morphologyEx(face.astype(np.uint8), cv2.MORPH_OPEN, disc) | sure.astype(np.uint8)
    _, labels = cv2.connectedComponents(opened, connectivity=4)
    counts = np.bincount(labels[sure], minlength=1)
    counts[0] = 0
    piece = (labels == counts.argmax()).astype(np.uint8)
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(piece), contours, -1, 1, cv2.FILLED)
    return np.asarray(filled, dtype=np.bool_)


def _smooth(face: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Brings the mask to `size` px with a smooth boundary, in one piece."""
    wide = cv2.resize(face.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    smooth = (cv2.GaussianBlur(wide, (0, 0), 4.0) > 0.5).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(smooth, connectivity=4)
    if len(stats) < 2:
        return np.asarray(smooth, dtype=np.bool_)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=np.bool_)

"""The picture of a test: input, reference, mask, Phase I, full and truth, one row a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from restoration.evaluate_transfer.cases import Case
from restoration.evaluate_transfer.conditions import Condition, Images

Picture = NDArray[np.uint8]
SIDE: Final = 128
GAP: Final = 4
TITLES: Final = ("input", "reference", "mask", "Phase I", "full", "truth")


def chosen_rows(cases: Sequence[Case], count: int) -> list[int]:
    """Numbers of the faces to show: those with most hidden marks first, no person twice."""
    order = sorted(range(len(cases)), key=lambda number: -int(cases[number].marks.sum()))
    rows: dict[str, int] = {}
    for number in order:
        rows.setdefault(cases[number].identity, number)
    return list(rows.values())[:count]


def draw_sheet(
    cases: Sequence[Case], images: Mapping[Condition, Images], rows: Sequence[int]
) -> Picture:
    """Rows of faces with a line of titles above; uint8 [H, W, 3]. The mask is the reviewed one."""
    lines = [_titles()]
    for number in rows:
        face = cases[number].face
        reference = face.reference
        masked = np.where(face.mask[..., None], reference, reference // 5)
        shown = (
            face.degraded,
            reference,
            masked.astype(np.uint8),
            _levels(images[Condition.PHASE_ONE][number]),
            _levels(images[Condition.REVIEWED][number]),
            face.truth,
        )
        lines.append(_line([_enlarged(one) for one in shown]))
    return np.vstack(lines)


def _levels(image: NDArray[np.float32]) -> Picture:
    return np.asarray(np.rint(image * 255), np.uint8)


def _enlarged(image: Picture) -> Picture:
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)


def _line(parts: Sequence[Picture]) -> Picture:
    framed = [
        cv2.copyMakeBorder(p, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3) for p in parts
    ]
    return np.asarray(np.hstack(framed), np.uint8)


def _titles() -> Picture:
    parts = []
    for title in TITLES:
        cell = np.full((22, SIDE, 3), 255, np.uint8)
        cv2.putText(
            cell, title, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA
        )
        parts.append(cell)
    return _line(parts)

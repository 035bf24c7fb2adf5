"""Every row's restorations of the same faces, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.files import write_whole
from restoration.ablation.rows import Row
from restoration.evaluate_transfer.cases import Case
from restoration.evaluate_transfer.conditions import Images

SIDE, HEAD = 144, 36
LINE = 14


def write_pictures(
    path: Path, cases: Sequence[Case], alone: Images, restored: Mapping[Row, Images]
) -> None:
    """Write a JPEG with a line for each case: input, reference under M, Phase I, the rows, truth.

    Args:
        path: of the JPEG.
        cases: which are shown.
        alone: Phase I's results, float32[N, S, S, 3] in [0, 1], of the same cases.
        restored: the rows' results, in the same form.
    """
    columns = {
        "input": [one.face.degraded for one in cases],
        "reference": [one.face.reference for one in cases],
        "under M": [_under(one.face.reference, one.face.mask) for one in cases],
        "Phase I": _levels(alone),
        **{row.heading: _levels(images) for row, images in restored.items()},
        "truth": [one.face.truth for one in cases],
    }
    picture = np.hstack([_column(name, images) for name, images in columns.items()])
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    write_whole(path, encoded.tobytes())


def _under(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], image, image // 6).astype(np.uint8)


def _levels(images: Images) -> list[NDArray[np.uint8]]:
    return [np.rint(one * 255).astype(np.uint8) for one in images]


def _column(name: str, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    head = np.full((HEAD, SIDE, 3), 255, np.uint8)
    for number, line in enumerate(name.split(", ")):
        place = (3, 15 + number * LINE)
        cv2.putText(head, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.33, (40, 40, 40), 1, cv2.LINE_AA)
    size = (SIDE, SIDE)
    tiles = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for one in images]
    return np.vstack([head, *tiles]).astype(np.uint8)

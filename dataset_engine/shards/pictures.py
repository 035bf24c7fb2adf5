"""Example pictures of triplets: ground truth, reference, and M over the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from dataset_engine.pictures import over
from dataset_engine.shards.images import Image, decode_mask, decode_rgb
from dataset_engine.shards.plan import Planned

__all__ = ["draw_examples", "over", "write_picture"]

_TILE: Final = 320
_GAP: Final = 8


def draw_examples(examples: Iterable[Planned]) -> Image | None:
    """A picture with a row for each example, uint8 RGB; None if none of them can be decoded."""
    rows: list[Image] = []
    for example in examples:
        try:
            tiles = _tiles(example.members())
        except ValueError:
            continue
        row = np.full((_TILE, 3 * _TILE + 2 * _GAP, 3), 255, np.uint8)
        for number, tile in enumerate(tiles):
            at = number * (_TILE + _GAP)
            row[:, at : at + _TILE] = cv2.resize(tile, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
        rows += [row, np.full((_GAP, row.shape[1], 3), 255, np.uint8)]
    return np.concatenate(rows[:-1]) if rows else None


def _tiles(members: Mapping[str, bytes]) -> tuple[Image, Image, Image]:
    reference = decode_rgb(members["ref.jpg"])
    mask = decode_mask(members["mask.png"])
    region = decode_mask(members["ref.region.png"])
    return decode_rgb(members["gt.jpg"]), reference, over(reference, mask, region)


def write_picture(path: Path, picture: Image) -> None:
    """Write uint8 RGB as a JPEG."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not written:
        raise OSError(f"{path}: the picture could not be encoded")
    path.write_bytes(data.tobytes())

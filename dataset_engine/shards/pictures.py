"""Example pictures of triplets: ground truth, reference, and M over the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from dataset_engine.shards.images import Image, Mask, decode_mask, decode_rgb
from dataset_engine.shards.plan import Planned

_TILE: Final = 320
_GAP: Final = 8
_GREEN: Final = (60, 200, 100)
_RED: Final = (230, 60, 60)


def overlay(reference: Image, mask: Mask, region: Mask) -> Image:
    """The reference with M in green, the rest of the face region in red and everything else dark.

    Args:
        reference: uint8 RGB [H, W, 3].
        mask: M, bool [H, W].
        region: the face region, bool [H, W].

    Returns:
        uint8 RGB [H, W, 3].
    """
    image = reference.astype(np.float32)
    image[~(mask | region)] *= 0.35
    for where, colour in ((mask, _GREEN), (region & ~mask, _RED)):
        image[where] = 0.62 * image[where] + 0.38 * np.asarray(colour, np.float32)
    drawn = image.astype(np.uint8)
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, edges, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


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
    return decode_rgb(members["gt.jpg"]), reference, overlay(reference, mask, region)


def write_picture(path: Path, picture: Image) -> None:
    """Write uint8 RGB as a JPEG."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not written:
        raise OSError(f"{path}: the picture could not be encoded")
    path.write_bytes(data.tobytes())

"""Finds faces in a picture of any size with two detectors that were made for small ones.

The short-range detector is good for faces that fill the picture (aligned ones), the full-range
detector for the others; far smaller faces are looked for in overlapping tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

OVERLAPPING: Final = 0.35
"""Intersection over union from which two boxes are one face."""

_DETECT_SIDE: Final = 1024
_TILE_SIDE: Final = 384
_SMALL_FACE: Final = 0.10
"""Share of the side from which faces are found reliably. While the largest is smaller, others as
large may have been missed, and the search goes on in tiles of half the side."""
_SMALLEST_TILE: Final = 480


@dataclass(frozen=True, eq=False)
class Detection:
    """A detector's finding: eyes, nose and mouth float64 [4, 2] px, and a box [4] px."""

    points: NDArray[np.float64]
    box: NDArray[np.float64]
    score: float


class Detector:
    """Both detectors together.

    Args:
        near: mediapipe's face detection for close faces (model 0).
        far: the same for distant ones (model 1).
    """

    def __init__(self, near: Any, far: Any) -> None:  # noqa: ANN401 - mediapipe has no types
        self._near = near
        self._far = far

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """The faces in uint8 RGB [H, W, 3], each once, surest first, in px of `image`."""
        small, factor = _at_most(image, _DETECT_SIDE)
        found = self._detect_padded(self._far, small) + self._detect_padded(self._near, small)
        found = _suppress([_moved(item, factor, (0, 0)) for item in found])
        side = max(image.shape[:2])
        while _largest(found) < _SMALL_FACE * side and side // 2 >= _SMALLEST_TILE:
            side //= 2
            for x, y, tile in _tiles(image, side):
                small, factor = _at_most(tile, _TILE_SIDE)
                found += [_moved(d, factor, (x, y)) for d in self._run(self._far, small)]
            found = _suppress(found)
        return found

    def _detect_padded(self, graph: Any, image: NDArray[np.uint8]) -> list[Detection]:  # noqa: ANN401
        """Detects with a margin all round: the models know no face that fills its picture."""
        margin = max(image.shape[:2]) // 4
        padded = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        return [_moved(d, 1.0, (-margin, -margin)) for d in self._run(graph, padded)]

    @staticmethod
    def _run(graph: Any, image: NDArray[np.uint8]) -> list[Detection]:  # noqa: ANN401
        height, width = image.shape[:2]
        size = np.array([width, height], dtype=np.float64)
        result = graph.process(np.ascontiguousarray(image))
        found = []
        for detection in result.detections or ():
            data = detection.location_data
            points = np.array([(p.x, p.y) for p in data.relative_keypoints[:4]]) * size
            frame = data.relative_bounding_box
            corner = np.array([frame.xmin, frame.ymin]) * size
            box = np.concatenate([corner, corner + np.array([frame.width, frame.height]) * size])
            found.append(Detection(points, box, float(detection.score[0])))
        return found


def _at_most(image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    """The image reduced to `side` px at most, and the factor back to its own pixels."""
    height, width = image.shape[:2]
    factor = max(height, width) / side
    if factor <= 1:
        return image, 1.0
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), factor


def _tiles(image: NDArray[np.uint8], side: int) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Square tiles (x, y, pixels) that overlap by half, so that no face is cut by all of them."""
    height, width = image.shape[:2]
    step = max(1, side // 2)
    for y in sorted({*range(0, max(1, height - side), step), max(0, height - side)}):
        for x in sorted({*range(0, max(1, width - side), step), max(0, width - side)}):
            yield x, y, image[y : y + side, x : x + side]


def _moved(detection: Detection, factor: float, offset: tuple[int, int]) -> Detection:
    shift = np.array(offset, dtype=np.float64)
    box = detection.box * factor + np.concatenate([shift, shift])
    return Detection(detection.points * factor + shift, box, detection.score)


def _largest(found: list[Detection]) -> float:
    """Width of the largest box, px; 0 where there is none."""
    return max((float(item.box[2] - item.box[0]) for item in found), default=0.0)


def overlap(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    total = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / total if total > 0 else 0.0


def _suppress(found: list[Detection]) -> list[Detection]:
    """Keeps the surest of the detections that overlap."""
    kept: list[Detection] = []
    for item in sorted(found, key=lambda item: item.score, reverse=True):
        if all(overlap(item.box, other.box) < OVERLAPPING for other in kept):
            kept.append(item)
    return kept

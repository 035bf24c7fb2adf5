"""The faces on which methods differ most, and where on them: kept while the images pass by."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from restoration.evaluate_methods.result_folders import INPUT, Loaded

SMALL: Final = 128
"""Side at which differences are searched, px."""
ZOOM: Final = 4
"""A zoom shows a square of a fourth of the side."""


@dataclass(frozen=True, eq=False)
class Look:
    """A face that is shown, and the square of it that is enlarged: its corner and side, px."""

    loaded: Loaded
    difference: float
    """Standard deviation between the methods in the square, in grey levels."""
    left: int
    top: int
    side: int


class CloserLook:
    """Keeps the faces with the largest differences, however many pass."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, str, Look]] = []

    def consider(self, loaded: Loaded) -> None:
        """Keep a face if it is among the most different so far."""
        if self._count:
            look = find_difference(loaded)
            entry = (look.difference, loaded.face.name, look)
            if len(self._kept) < self._count:
                heapq.heappush(self._kept, entry)
            else:
                heapq.heappushpop(self._kept, entry)

    def looks(self) -> list[Look]:
        """What was kept, the largest difference first."""
        return [look for *_, look in sorted(self._kept, key=lambda one: -one[0])]


def find_difference(loaded: Loaded) -> Look:
    """Where methods differ most; a single method is held against the truth, or the input."""
    restored = loaded.face.restored
    images = [image for name, image in restored.items() if name != INPUT]
    if len(images) < 2:
        images += [one for one in (loaded.face.truth, loaded.degraded) if one is not None][:1]
    small = np.stack([_small(image) for image in images])
    spread = small.std(axis=0)
    window = SMALL // ZOOM
    inner = (SMALL - window) // 2
    blurred = cv2.blur(spread, (window, window))
    # Only squares that lie whole in the image.
    middle = blurred[window // 2 : window // 2 + 2 * inner, window // 2 : window // 2 + 2 * inner]
    row, column = np.unravel_index(int(middle.argmax()), middle.shape)
    side = next(iter(restored.values())).shape[1]
    scale = side / SMALL
    return Look(
        loaded,
        float(middle[row, column]),
        round(int(column) * scale),
        round(int(row) * scale),
        max(1, side // ZOOM),
    )


def _small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = (SMALL, SMALL)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)

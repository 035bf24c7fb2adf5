"""What restoring needs of whoever finds faces; that is not this room's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class NotUsable(Exception):  # noqa: N818 - it names a finding
    """A picture that cannot be used: a code for counting, and a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, eq=False)
class LocatedFace:
    """A face in a picture."""

    aligned: Image
    """uint8 RGB [S, S, 3], on the template that the networks know."""
    paste: Callable[[Image], Image]
    """Takes the restored face, uint8 RGB [any, any, 3], to the whole picture with it."""
    notes: tuple[str, ...] = ()
    """What is odd about the file, such as that it is grayscale."""


class FaceFinder(Protocol):
    """Reads a picture and finds its face."""

    def __call__(self, path: Path) -> LocatedFace:
        """The face of a picture.

        Raises:
            NotUsable: there is none, there are several, or the file cannot be read.
        """

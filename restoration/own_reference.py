"""For the first steps of Phase II from scratch: the ground truth itself, bent and relit, as reference.

Another photograph shows so little of what the input hides that a network from scratch finds no gradient
to follow. Its own picture, a little elsewhere and in other light, shows all of it: from it the reference
attention learns to carry detail and leave light alone, and goes on with real references from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from restoration.refstar_data import Face

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

BEND: Final = 1.2 / 64
"""Largest shift of a part of the face, as a share of the side: about that of other poses."""
SHIFT: Final = 0.5 / 64
"""Largest shift of the whole."""
SHADE, TINT, GAIN, OFFSET = 0.25, 0.15, 0.2, 0.06
"""Largest changes of light: from place to place, of each colour, of all, and added."""


@dataclass(frozen=True)
class OwnReferences:
    """Which examples of Phase II get their own ground truth as reference, as a function of place.

    The share of such examples falls from all to none over `examples` examples.
    """

    examples: int
    seed: int

    def __call__(self, face: Face, position: int) -> Face:
        """The example at `position` in the order of training, with its own reference or as it is."""
        rng = np.random.default_rng([self.seed, position, 5])
        if rng.random() * self.examples < self.examples - position:
            return with_own_reference(face, rng)
        return face


def with_own_reference(face: Face, rng: np.random.Generator) -> Face:
    """Reference, its degraded form and M of the ground truth itself, all bent and relit alike.

    M becomes the face region; one that keeps nothing stays so, as the ablation's all-zeros row needs it.
    """
    size = face.truth.shape[0]
    where = _bend(size, rng)
    light = 1 + SHADE * _wave(size, 3, rng)[..., None] + TINT * _draw(rng, 3) + GAIN * _draw(rng, 1)
    offset = 255 * OFFSET * _draw(rng, 3)
    return replace(
        face,
        reference=_relit(_moved(face.truth, where), light, offset),
        degraded_reference=_relit(_moved(face.degraded, where), light, offset),
        mask=face.mask.any() & (_moved(face.region.astype(np.uint8) * 255, where) > 127),
    )


def _draw(rng: np.random.Generator, *shape: int) -> Field:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _wave(size: int, knots: int, rng: np.random.Generator) -> Field:
    """A smooth field, float32 [size, size], about in [-1, 1]."""
    field = cv2.resize(_draw(rng, knots, knots), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float32)


def _bend(size: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Where each pixel is fetched from: x and y, float32 [size, size]."""
    places = np.arange(size, dtype=np.float32)
    shift = SHIFT * size * _draw(rng, 2)
    x = places[None, :] + BEND * size * _wave(size, 4, rng) + shift[0]
    y = places[:, None] + BEND * size * _wave(size, 4, rng) + shift[1]
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _moved(image: Image, where: tuple[Field, Field]) -> Image:
    moved = cv2.remap(image, *where, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _relit(image: Image, light: Field, offset: Field) -> Image:
    return np.clip(image * light + offset + 0.5, 0, 255).astype(np.uint8)

"""Pairwise augmentation: what may be done to (first image, reference, M) without making M wrong.

M lies on the reference's pixels, so whatever moves the reference moves M and the face region with it.
Light and colour differ between two shots and are no conflict, so each image gets its own. Exchanging
ground truth and reference is not allowed: M does not follow.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

# Without this, importing albumentations asks the network for a newer version of itself.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Transform = NDArray[np.float64]

_LEVELS = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)


@dataclass(frozen=True)
class TrainingPair:
    """One example: two uint8[H, W, 3] RGB images and two bool[H, W] on the reference's pixels."""

    first: Image
    reference: Image
    mask: Mask
    region: Mask


@dataclass(frozen=True)
class AugmentationSettings:
    """How far an example may be moved and recoloured.

    `shared_*` move both images alike; `own_*` move each by itself (two shots are never perfectly
    aligned). Shifts are shares of the side, turns degrees, `photometric` scales the colour changes.
    `same_share` of the examples compare the reference with itself, which has no conflict;
    `transplant_share` get a soft patch of the reference in the first image, consistent there.
    """

    flip: float = 0.5
    shared_shift: float = 0.04
    shared_scale: float = 0.1
    shared_turn: float = 8.0
    own_shift: float = 0.015
    own_scale: float = 0.03
    own_turn: float = 2.0
    photometric: float = 1.0
    same_share: float = 0.05
    transplant_share: float = 0.15


class PairAugmentation:
    """Changes examples by seed: the same seed and example always give the same result."""

    def __init__(self, settings: AugmentationSettings) -> None:
        self.settings = settings
        # albumentations' transforms hold random state, so each thread has its own.
        self._own = threading.local()

    def _relit(self, image: Image, seed: int) -> Image:
        """Another brightness, contrast, gamma and cast, by a table: no pixel's place counts."""
        if not hasattr(self._own, "light"):
            self._own.light = albumentations.Compose(_photometric(self.settings.photometric))
        self._own.light.set_random_seed(seed)
        return np.asarray(cv2.LUT(image, self._own.light(image=_LEVELS)["image"]), np.uint8)

    def mix(self, pair: TrainingPair, seed: int) -> TrainingPair:
        """Make an example without, or with fewer, conflicts out of one, before any degradation."""
        rng = np.random.default_rng([seed, 0])
        draw = rng.random()
        if draw < self.settings.same_share:
            return replace(pair, first=pair.reference, mask=pair.region)
        if draw < self.settings.same_share + self.settings.transplant_share:
            return transplant(pair, rng)
        return pair

    def move_and_light(self, pair: TrainingPair, seed: int) -> TrainingPair:
        """Flip, move and recolour: the reference, M and the face region stay in step."""
        s = self.settings
        rng = np.random.default_rng([seed, 1])
        height, width = pair.mask.shape
        size = (width, height)
        flip = _mirror(width) if rng.random() < s.flip else np.eye(3)
        shared = _affine(rng, size, s.shared_shift, s.shared_scale, s.shared_turn) @ flip
        of_first, of_reference = (
            _affine(rng, size, s.own_shift, s.own_scale, s.own_turn) @ shared for _ in range(2)
        )
        # One for both masks, which lie on the same pixels.
        both = pair.mask.astype(np.uint8) + 2 * pair.region.astype(np.uint8)
        moved = _warp(both, of_reference, cv2.INTER_NEAREST)
        seeds = [int(value) for value in rng.integers(2**31, size=2)]
        return TrainingPair(
            self._relit(_warp(pair.first, of_first, cv2.INTER_LINEAR), seeds[0]),
            self._relit(_warp(pair.reference, of_reference, cv2.INTER_LINEAR), seeds[1]),
            (moved & 1) > 0,
            (moved & 2) > 0,
        )


def transplant(pair: TrainingPair, rng: np.random.Generator) -> TrainingPair:
    """Paste a soft patch of the reference into the first image, where M then becomes consistent.

    Both are aligned to one template, so the patch falls on about the same part of the face.
    """
    height, width = pair.mask.shape
    ys, xs = np.nonzero(pair.region)
    if not ys.size:
        return pair
    at = int(rng.integers(ys.size))
    radii = rng.uniform(0.06, 0.25, size=2) * (width, height)
    patch = np.zeros((height, width), np.float32)
    cv2.ellipse(
        patch,
        (int(xs[at]), int(ys[at])),
        (int(radii[0]), int(radii[1])),
        float(rng.uniform(0, 180)),
        0,
        360,
        1.0,
        -1,
    )
    sigma = 0.02 * width
    alpha = cv2.GaussianBlur(patch, (0, 0), sigma)[..., None]
    first = pair.first + alpha * (pair.reference.astype(np.float32) - pair.first)
    return replace(
        pair,
        first=np.rint(first).astype(np.uint8),
        mask=pair.mask | (pair.region & (alpha[..., 0] > 0.5)),
    )


def shrink(pair: TrainingPair, side: int) -> TrainingPair:
    """Bring an example to `side` x `side`; masks by majority."""
    if pair.mask.shape == (side, side):
        return pair
    size = (side, side)

    def half(mask: Mask) -> Mask:
        share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        majority: Mask = share >= 0.5
        return majority

    return TrainingPair(
        np.asarray(cv2.resize(pair.first, size, interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(cv2.resize(pair.reference, size, interpolation=cv2.INTER_AREA), np.uint8),
        half(pair.mask),
        half(pair.region),
    )


def _mirror(width: int) -> Transform:
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _affine(
    rng: np.random.Generator, size: tuple[int, int], shift: float, scale: float, turn: float
) -> Transform:
    """A random similarity about the middle of an image of `size` (width, height), 3 x 3."""
    middle = (np.array(size) - 1) / 2
    angle = np.deg2rad(rng.uniform(-turn, turn))
    factor = 1 + rng.uniform(-scale, scale)
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    moved = np.eye(3)
    moved[:2, :2] = [[cos, -sin], [sin, cos]]
    moved[:2, 2] = middle + rng.uniform(-shift, shift, 2) * size - moved[:2, :2] @ middle
    return moved


def _warp(image: Image, transform: Transform, interpolation: int) -> Image:
    height, width = image.shape[:2]
    # A warp that moves nothing takes as long as any other.
    if np.array_equal(transform, np.eye(3)):
        return image
    if np.array_equal(transform, _mirror(width)):
        return np.ascontiguousarray(image[:, ::-1])
    warped = cv2.warpAffine(
        image,
        transform[:2],
        (width, height),
        flags=interpolation,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, np.uint8)


def _photometric(strength: float) -> list[albumentations.BasicTransform]:
    """Light and colour of another shot. Mild, as make-up is a matter of colour too."""
    if strength <= 0:
        return []
    cast = 7.5 * strength
    return [
        albumentations.RandomBrightnessContrast(
            brightness_limit=0.075 * strength, contrast_limit=0.1 * strength, p=1.0
        ),
        albumentations.RandomGamma(gamma_limit=(100 - 12 * strength, 100 + 13 * strength), p=1.0),
        albumentations.RGBShift(
            r_shift_limit=(-cast, cast),
            g_shift_limit=(-cast, cast),
            b_shift_limit=(-cast, cast),
            p=1.0,
        ),
    ]

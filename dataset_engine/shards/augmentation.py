"""Pairwise augmentation: what may be done to (first image, reference, M) without making M wrong.

M lies on the reference's pixels, so whatever moves the reference moves M and the face region with it.
Light and colour differ between two shots and are no conflict, so each image gets its own. Exchanging
ground truth and reference is not allowed: M does not follow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

# Without this, importing albumentations asks the network for a newer version of itself.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

IMAGES = {"reference": "image"}
SHARED_TARGETS = {"reference": "image", "region": "mask"}


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
    """Changes examples by seed: the same seed and example always give the same result.

    Not safe for use by several threads at once, as albumentations' transforms hold their own random
    state: give each worker its own.
    """

    def __init__(self, settings: AugmentationSettings) -> None:
        self.settings = settings
        s = settings
        self._together = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=s.flip),
                _affine(s.shared_shift, s.shared_scale, s.shared_turn),
            ],
            additional_targets=SHARED_TARGETS,
        )
        self._alone = albumentations.Compose(
            [_affine(s.own_shift, s.own_scale, s.own_turn)],
            additional_targets={"region": "mask"},
        )
        self._light = albumentations.Compose(_photometric(s.photometric))

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
        rng = np.random.default_rng([seed, 1])
        seeds = [int(value) for value in rng.integers(2**31, size=5)]
        self._together.set_random_seed(seeds[0])
        both = self._together(
            image=pair.first,
            reference=pair.reference,
            mask=pair.mask.astype(np.uint8),
            region=pair.region.astype(np.uint8),
        )
        nothing = np.zeros(pair.first.shape[:2], np.uint8)
        self._alone.set_random_seed(seeds[1])
        first = self._alone(image=both["image"], mask=nothing)["image"]
        self._alone.set_random_seed(seeds[2])
        second = self._alone(image=both["reference"], mask=both["mask"], region=both["region"])
        self._light.set_random_seed(seeds[3])
        first = self._light(image=first)["image"]
        self._light.set_random_seed(seeds[4])
        reference = self._light(image=second["image"])["image"]
        return TrainingPair(first, reference, second["mask"] > 0, second["region"] > 0)


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


def _affine(shift: float, scale: float, turn: float) -> albumentations.Affine:
    return albumentations.Affine(
        translate_percent=(-shift, shift),
        scale=(1 - scale, 1 + scale),
        rotate=(-turn, turn),
        border_mode=cv2.BORDER_REFLECT_101,
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        p=1.0,
    )


def _photometric(strength: float) -> list[albumentations.BasicTransform]:
    if strength <= 0:
        return []
    cast = 20 * strength
    return [
        albumentations.RandomBrightnessContrast(
            brightness_limit=0.2 * strength, contrast_limit=0.2 * strength, p=0.7
        ),
        albumentations.RGBShift(
            r_shift_limit=(-cast, cast),
            g_shift_limit=(-cast, cast),
            b_shift_limit=(-cast, cast),
            p=0.5,
        ),
        albumentations.HueSaturationValue(
            hue_shift_limit=(-5 * strength, 5 * strength),
            sat_shift_limit=(-25 * strength, 25 * strength),
            val_shift_limit=(0, 0),
            p=0.3,
        ),
        albumentations.RandomGamma(gamma_limit=(100 - 25 * strength, 100 + 30 * strength), p=0.3),
        albumentations.GaussNoise(std_range=(0.0, 0.02 * strength), p=0.2),
    ]

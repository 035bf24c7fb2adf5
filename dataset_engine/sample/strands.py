"""Where strands of hair run: curves [N, points, 2] on the canonical canvas, a function a cut."""

from __future__ import annotations

import numpy as np

from dataset_engine.sample.fields import Field
from dataset_engine.sample.identity import HairStyle, Identity


def quadratic(start: Field, middle: Field, end: Field, points: int = 10) -> Field:
    """Strands [N, points, 2] as quadratic curves."""
    t = np.linspace(0, 1, points)[None, :, None]
    a, b, c = start[:, None], middle[:, None], end[:, None]
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c, np.float32)


def crop_strands(identity: Identity, rng: np.random.Generator, volume: float) -> Field:
    """Short hair that stands away from the head."""
    bone = identity.bone
    count = 2600
    angle = rng.uniform(-1.75, 1.75, count)
    radius = rng.uniform(0.55, 1.0, count)
    reach_x = (bone.temple + volume * 0.6) * np.sin(angle)
    reach_y = (150 - bone.top_y + volume) * np.cos(angle)
    start = np.stack([256 + reach_x * radius, 175 - reach_y * radius], 1)
    away = np.stack([np.sin(angle), -0.55 * np.cos(angle) + 0.15], 1)
    length = rng.uniform(14, 34, count)[:, None]
    wild = rng.normal(0, 3.5, (count, 2))
    return quadratic(start, start + 0.5 * length * away + wild, start + length * away + 2 * wild, 6)


def swept_strands(identity: Identity, rng: np.random.Generator, volume: float) -> Field:
    """Hair combed from a side parting over the head and down."""
    bone = identity.bone
    side = 1 if identity.stream(76).uniform() < 0.5 else -1
    count = 1500
    part = 256 + side * 46.0
    t = rng.uniform(0, 1, count)
    start = np.stack(
        [
            part + rng.normal(0, 3, count),
            bone.top_y - volume * 0.8 + t * (bone.hairline - bone.top_y + volume),
        ],
        1,
    )
    over = rng.uniform(size=count) < 0.68
    drop = 520.0 if identity.long_hair else 250.0
    end_y = rng.uniform(120, drop, count)
    out = (bone.cheek + volume * 0.55) * (0.9 + 0.12 * rng.uniform(size=count))
    end_x = np.where(over, 256 - side * out, 256 + side * out)
    lift = bone.top_y - volume * 0.9 + t * 74
    middle_x = np.where(over, 256 - side * out * 0.86, 256 + side * out * 0.95)
    middle = np.stack([middle_x, lift + rng.normal(0, 7, count)], 1)
    return quadratic(start, middle, np.stack([end_x, end_y + 30], 1), 14)


def parted_strands(identity: Identity, rng: np.random.Generator, volume: float) -> Field:
    """Hair that falls from the middle to both sides."""
    bone = identity.bone
    count = 1700
    t = rng.uniform(0, 1, count)
    side = np.where(rng.uniform(size=count) < 0.5, -1, 1)
    start_y = bone.top_y - volume * 0.9 + t * (bone.hairline - bone.top_y + volume * 0.8)
    start = np.stack([256 + side * rng.uniform(0, 5, count), start_y], 1)
    out = (bone.cheek + volume * 0.6) * rng.uniform(0.86, 1.06, count)
    drop = rng.uniform(380, 590, count) if identity.long_hair else rng.uniform(150, 290, count)
    middle = np.stack([256 + side * out * 1.02, bone.top_y - volume + 22 + t * 66], 1)
    wave = rng.normal(0, 6, count)
    return quadratic(start, middle, np.stack([256 + side * out + wave, drop], 1), 16)


def tied_strands(identity: Identity, rng: np.random.Generator, volume: float) -> Field:
    """Hair drawn back from the hairline into a bun."""
    bone = identity.bone
    count = 1700
    angle = rng.uniform(-1.6, 1.6, count)
    start = np.stack(
        [256 + (bone.temple * 0.93) * np.sin(angle), 178 - (176 - bone.hairline) * np.cos(angle)], 1
    )
    end = np.stack(
        [256 + 34 * np.sin(angle), np.full(count, bone.top_y - volume - 2)], 1
    ) + rng.normal(0, 5, (count, 2))
    middle = 0.5 * (start + end) + np.stack([34 * np.sin(angle), -14 * np.cos(angle)], 1)
    return quadratic(start, middle, end, 10)


def fringe_strands(identity: Identity, rng: np.random.Generator, loose: bool) -> Field:
    """Strands over the forehead: a fringe, a lock, or none."""
    bone = identity.bone
    if identity.hair is HairStyle.FRINGE:
        count, low, high, spread = (900, 168, 204, 96) if loose else (620, 140, 178, 92)
    elif not loose:
        return np.zeros((0, 2, 2), np.float32)
    elif identity.hair is HairStyle.TIED:
        return _temple_locks(identity, rng)
    elif identity.hair is HairStyle.CROP:
        count, low, high, spread = 170, 112, 148, 70
    else:
        side = 1 if identity.stream(76).uniform() < 0.5 else -1
        return _lock(identity, rng, side)
    x = rng.uniform(-spread, spread, count)
    start = np.stack([256 + x * 0.72, np.full(count, bone.top_y + 26.0)], 1)
    arch = 22 * (x / spread) ** 2
    end = np.stack([256 + x + rng.normal(0, 5, count), rng.uniform(low, high, count) + arch], 1)
    middle = 0.5 * (start + end) + np.stack([x * 0.22, -6 * np.ones(count)], 1)
    return quadratic(start, middle, end, 10)


def _temple_locks(identity: Identity, rng: np.random.Generator) -> Field:
    """Two thin locks that slipped out beside the temples."""
    bone, count = identity.bone, 44
    side = np.where(np.arange(count) % 2 == 0, -1, 1)
    t = rng.normal(0, 1, count)
    start = np.stack([256 + side * (66 + 2 * t), bone.hairline + 14 + t], 1)
    middle = np.stack([256 + side * (88 + 3 * t), np.full(count, 190.0)], 1)
    end = np.stack([256 + side * (bone.cheek - 14 + 2 * t), 276 + 12 * rng.normal(0, 1, count)], 1)
    return quadratic(start, middle, end, 12)


def _lock(identity: Identity, rng: np.random.Generator, side: int) -> Field:
    """A lock that falls from the parting over one side of the forehead."""
    bone, count = identity.bone, 190
    t = rng.uniform(0, 1, count)
    start = np.stack([256 + side * (44 - 20 * t), np.full(count, bone.hairline - 22.0)], 1)
    end = np.stack([256 - side * (60 + 46 * t), 158 + 34 * t + rng.normal(0, 6, count)], 1)
    middle = np.stack([256 - side * (20 + 40 * t), 96 + 26 * t + rng.normal(0, 4, count)], 1)
    return quadratic(start, middle, end, 12)

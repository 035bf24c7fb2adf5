"""What a shot puts on the skin: spots that come and go, make-up and face paint."""

from __future__ import annotations

import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    Field,
    Mask,
    blur,
    close,
    fill,
    grid,
    grow,
    linear,
    noise,
    pair,
    smoothstep,
)
from dataset_engine.sample.identity import Identity

PAINTS = (
    (196, 30, 44),
    (28, 84, 180),
    (240, 240, 236),
    (20, 20, 24),
    (238, 190, 40),
    (30, 132, 72),
)
LIPSTICKS = ((150, 18, 38), (120, 20, 58), (196, 48, 62), (86, 22, 34), (206, 60, 108))
SHADOWS = ((60, 44, 92), (36, 70, 110), (94, 54, 40), (30, 84, 80), (110, 50, 90), (38, 34, 36))


def spot_cover(identity: Identity) -> Field:
    """Spots [576, 576] in [0, 1] that some shots show: freckles, age spots or blemishes."""
    rng, kind = identity.stream(41), identity.habits.spots
    count, low, high = {
        "freckles": (210, 0.9, 2.3), "age spots": (20, 3.0, 6.5), "blemishes": (16, 2.6, 4.6),
    }[kind]  # fmt: skip
    field = np.zeros((CANVAS, CANVAS), np.float32)
    x, y = grid()
    placed = 0
    while placed < count:
        cx, cy = _spot_place(rng, kind)
        if 206 < cy < 266 and 28 < abs(cx - 256) < 100:
            continue
        placed += 1
        size = rng.uniform(low, high)
        row, column = int(cy) + 32, int(cx) + 32
        box = np.s_[row - 14 : row + 15, column - 14 : column + 15]
        px, py = x[:, box[1]], y[box[0]]
        stretch = rng.uniform(0.8, 1.25)
        d = np.sqrt(((px - cx) * stretch) ** 2 + (py - cy) ** 2)
        spot = smoothstep(size + 1.4, max(size - 1.4, 0.0), d) * rng.uniform(0.55, 1)
        field[box] = np.maximum(field[box], spot)
    return np.asarray(field, np.float32)


def _spot_place(rng: np.random.Generator, kind: str) -> tuple[float, float]:
    if kind == "freckles":
        side = rng.choice([-1, 0, 1], p=[0.4, 0.2, 0.4])
        return 256 + side * 68 + rng.normal(0, 20), 292 + rng.normal(0, 15) - 8 * (side == 0)
    if kind == "age spots":
        forehead = rng.uniform() < 0.4
        side = rng.choice([-1, 1])
        if forehead:
            return 256 + side * rng.uniform(20, 88), rng.uniform(120, 178)
        return 256 + side * rng.uniform(72, 112), rng.uniform(272, 340)
    side = rng.choice([-1, 1])
    if rng.uniform() < 0.35:
        return 256 + rng.uniform(-36, 36), rng.uniform(408, 440)
    return 256 + side * rng.uniform(66, 104), rng.uniform(300, 385)


def spot_tint(identity: Identity) -> Field:
    """What a spot multiplies the skin's colour with [3]."""
    if identity.habits.spots == "blemishes":
        return np.array([0.86, 0.44, 0.42], np.float32)
    if identity.habits.spots == "freckles":
        return np.array([0.58, 0.44, 0.36], np.float32)
    return np.array([0.50, 0.40, 0.34], np.float32)


def spot_area(identity: Identity) -> Mask:
    """The patches [576, 576] that hold the spots, as a person would paint them."""
    return close(grow(spot_cover(identity) > 0.12, 4), 11)


def lid_cover(identity: Identity) -> Field:
    """Eye shadow [576, 576] in [0, 1] on the resting face."""
    x, y = grid()
    bone = identity.bone
    out = np.abs(x - 256) - bone.eye_x
    rise = 5 * smoothstep(-20, 40, out)
    span = smoothstep(-36, -20, out) * smoothstep(48, 26, out)
    top = smoothstep(bone.brow_y + 9, bone.brow_y + 21, y + rise)
    return np.asarray(span * top * smoothstep(256, 243, y + rise * 1.6), np.float32)


def cheek_cover() -> Field:
    """Blush [576, 576] in [0, 1]."""
    x, y = grid()
    sweep = y + 0.28 * (np.abs(x - 256) - 84)
    return smoothstep(0.12, 0.9, pair(x, np.asarray(sweep, np.float32), 86, 300, 23, 16))


def lid_area(identity: Identity) -> Mask:
    """Where eye shadow can be seen [576, 576], on the resting face."""
    return grow(lid_cover(identity) > 0.03, 3)


def cheek_area() -> Mask:
    """Where blush can be seen [576, 576], on the resting face."""
    return np.asarray(cheek_cover() > 0.06)


def make_up_colours(identity: Identity) -> tuple[Field, Field, Field]:
    """Linear colours [3] of lipstick, eye shadow and blush; an identity keeps its own."""
    rng = identity.stream(42)
    lip, lid = rng.integers(0, len(LIPSTICKS)), rng.integers(0, len(SHADOWS))
    return linear(LIPSTICKS[lip]), linear(SHADOWS[lid]), linear((214, 62, 84))


def paint_layers(identity: Identity) -> list[tuple[Field, Field]]:
    """Face paint: coverages [576, 576] in [0, 1] with their linear colours [3]."""
    rng = identity.stream(43)
    first, second = rng.choice(len(PAINTS), 2, replace=False)
    side = 1 if rng.uniform() < 0.5 else -1
    motif = int(rng.integers(0, 4))
    layers: list[tuple[list[Field], int]]
    if motif == 0:  # bands on both cheeks

        def bands(y: float) -> list[Field]:
            return [_band(256 + s * 52, 256 + s * 116, y, 8.5) for s in (-1, 1)]

        layers = [(bands(292), first), (bands(314), second)]
    elif motif == 1:  # a flag on one cheek
        left, right = sorted((256 + side * 52, 256 + side * 110))
        rows = [_box(left, right, 280 + 15 * k, 295 + 15 * k) for k in range(3)]
        layers = [([rows[0], rows[2]], first), ([rows[1]], second)]
    elif motif == 2:  # a star around one eye's outer cheek
        centre = np.array([256 + side * 80, 306.0])
        layers = [([_star(centre, 32)], first), ([_star(centre, 17)], second)]
    else:  # stripes over the forehead and down the nose's bridge
        layers = [
            ([_box(250, 262, 118, 200)], first),
            ([_box(232, 242, 124, 186), _box(270, 280, 124, 186)], second),
        ]
    grain = np.clip(0.93 + 0.05 * noise(rng, 5, 2), 0.7, 1)
    return [(blur(fill(shapes), 1.0) * grain, linear(PAINTS[c])) for shapes, c in layers]


def _band(x0: float, x1: float, y: float, thick: float) -> Field:
    px = np.linspace(x0, x1, 6)
    bow = -6 * np.linspace(0, 1, 6)
    top = np.stack([px, y + bow - thick * np.linspace(1, 0.55, 6)], 1)
    bottom = np.stack([px, y + bow + thick * np.linspace(1, 0.55, 6)], 1)
    return np.asarray(np.concatenate([top, bottom[::-1]]), np.float32)


def _box(x0: float, x1: float, y0: float, y1: float) -> Field:
    corners = [[x0, y0], [(x0 + x1) / 2, y0 - 1], [x1, y0], [x1, y1], [x0, y1]]
    return np.asarray(corners, np.float32)


def _star(centre: Field, size: float) -> Field:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, size, size * 0.42)
    star = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
    return np.asarray(star + centre, np.float32)


def paint_area(identity: Identity) -> Mask:
    """The painted skin [576, 576] as a person would mark it."""
    cover = np.max([layer for layer, _ in paint_layers(identity)], axis=0)
    return close(grow(cover > 0.05, 3), 7)

"""What is around the face: background, neck, ears, clothes."""

from __future__ import annotations

import cv2
import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    MARGIN,
    SIZE,
    Field,
    blur,
    curve,
    fill,
    gauss,
    grid,
    linear,
    noise,
    resize,
    rgb,
    smoothstep,
    split,
)
from dataset_engine.sample.geometry import Geometry
from dataset_engine.sample.identity import Identity
from dataset_engine.sample.shot import Shot

NECK_DEPTH, EAR_DEPTH, HAIR_DEPTH = -20.0, 6.0, -60.0
WALLS = ((196, 190, 182), (120, 130, 140), (64, 76, 92), (150, 120, 96), (88, 104, 80), (36, 36, 42),
         (170, 184, 200), (128, 60, 52))  # fmt: skip
CLOTHES = (
    (34, 38, 52),
    (150, 40, 44),
    (228, 226, 220),
    (54, 86, 66),
    (90, 96, 130),
    (20, 20, 22),
    (190, 150, 90),
)


def background(shot: Shot) -> Field:
    """A blurred place [512, 512, 3] in linear light."""
    rng = shot.stream(1)
    a, b = rng.choice(len(WALLS), 2, replace=False)
    axis = np.linspace(0, 1, 64, dtype=np.float32)
    mix = np.clip(axis[:, None] * rng.uniform(0.2, 0.9) + 0.3 * axis[None, :] * rng.normal(), 0, 1)
    field = linear(WALLS[a]) * (1 - mix)[..., None] + linear(WALLS[b]) * mix[..., None]
    field = field * (1 + 0.22 * noise(rng, 16, 2, size=64)[..., None])
    if rng.uniform() < 0.55:
        for _ in range(int(rng.integers(5, 16))):
            cx, cy, size = rng.uniform(0, 64), rng.uniform(0, 64), rng.uniform(2, 7)
            x, y = (
                np.arange(64, dtype=np.float32)[None, :],
                np.arange(64, dtype=np.float32)[:, None],
            )
            disc = smoothstep(size + 1, size - 1, np.hypot(x - cx, y - cy))[..., None]
            field += disc * np.asarray(rng.uniform(0.02, 0.35, 3), np.float32)
    return resize(
        blur(np.clip(field, 0.003, 1.2).astype(np.float32), 1.2), (SIZE, SIZE), cubic=True
    )


def lay(image: Field, layer: Field, view: Geometry, depth: float) -> Field:
    """Lay a flat canvas layer [h, w, 4] (premultiplied; full size or half) at a depth."""
    step = CANVAS // layer.shape[0]
    matrix = view.plane(depth)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * (step - 1) / 2
    matrix[:, :2] *= step
    moved = cv2.warpAffine(layer, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    colour, cover = split(np.asarray(moved, np.float32))
    return image * rgb(1 - cover) + colour


def _half(polygon: Field) -> Field:
    """Coverage [288, 288] of a polygon on the half-size canvas."""
    return fill([(polygon + MARGIN - 0.5) / 2], (CANVAS // 2, CANVAS // 2), 0.0)


def body(identity: Identity, shot: Shot) -> Field:
    """Neck and clothes [288, 288, 4], premultiplied, lit flatly."""
    bone, rng = identity.bone, shot.stream(2)
    x, y = grid(2)
    wide = 80 + 20 * identity.masculine
    right = [
        (wide - 10, 310),
        (wide + 4, 380),
        (wide - 3, 450),
        (wide + 1, 492),
        (wide + 34, 520),
        (300, 590),
    ]
    points = [(256 + a, b) for a, b in right] + [(256 - a, b) for a, b in reversed(right)]
    neck = blur(_half(np.asarray(points, np.float32)), 0.7)
    under = gauss(x, y, 256, bone.chin_y - 6, 120, 44)
    side = np.abs(x - 256) / wide
    light = float(shot.light.direction[0]) * (x - 256) / wide
    shade = np.clip((0.66 + 0.16 * light - 0.18 * side**2) * (1 - 0.62 * under), 0.08, 1)
    shade = shade + np.float32(0.25) * shot.light.ambient.mean()
    tint = np.array([1.0, 0.92, 0.88], np.float32) * shot.light.colour
    skin = identity.skin * tint * shade[..., None]
    dip = 548 - 14 * rng.uniform()
    edge = [(-60, 552), (110, 506), (172, 510), (256, dip), (340, 510), (402, 506), (572, 552)]
    collar = np.concatenate([curve(edge), [[600, 640], [-90, 640]]]).astype(np.float32)
    cloth = blur(_half(collar), 0.6)[..., None]
    dye = linear(CLOTHES[int(rng.integers(0, len(CLOTHES)))]) * np.float32(0.75)
    woven = dye * (0.85 + 0.12 * noise(rng, 15, 3, size=CANVAS // 2))[..., None]
    colour = skin * neck[..., None] * (1 - cloth) + woven * cloth
    cover = np.maximum(neck[..., None], cloth)
    return np.asarray(np.concatenate([colour, cover], axis=2), np.float32)


def ears(identity: Identity, shot: Shot) -> Field:
    """Both ears [288, 288, 4], premultiplied; hair and head hide what they hide."""
    x, y = grid(2)
    layer = np.zeros((CANVAS // 2, CANVAS // 2, 4), np.float32)
    tint = np.array([0.92, 0.74, 0.70], np.float32) * shot.light.colour
    for side in (-1, 1):
        cx = 256 + side * (identity.bone.cheek + 5)
        first = round((cx - 30 + MARGIN) / 2)
        box = np.s_[124:176, first : first + 30]
        px, py = x[:, box[1]], y[box[0]]
        u = side * (px - cx) - 0.16 * (264 - py)
        rim = np.sqrt((u / (14 + 0.05 * (264 - py))) ** 2 + ((py - 264) / 36) ** 2)
        cover = smoothstep(1.05, 0.95, np.asarray(rim, np.float32))
        fold = np.sqrt(((u + 2) / 8.5) ** 2 + ((py - 262) / 25) ** 2)
        shade = 1 - 0.38 * smoothstep(1.1, 0.75, np.asarray(fold, np.float32))
        shade = 0.85 * shade * (1 + 0.24 * side * float(shot.light.direction[0]))
        layer[box][..., :3] = identity.skin * tint * (shade * cover)[..., None]
        layer[box][..., 3] = cover
    return layer

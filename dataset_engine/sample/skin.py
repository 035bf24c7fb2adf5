"""The skin of a resting face: colour, mottling, pores, lasting lines and brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_engine.sample.fields import (
    Field,
    blur,
    curve,
    gauss,
    grid,
    lines,
    noise,
    pair,
    smoothstep,
)
from dataset_engine.sample.identity import Identity


@dataclass(frozen=True)
class Skin:
    """Layers [576, 576] of the resting face: albedo (linear, [.., 3]) and bump in px."""

    albedo: Field
    bump: Field


def draw_skin(identity: Identity) -> Skin:
    """Paint the identity's bare skin with its brows, without marks."""
    rng = identity.stream(1)
    x, y = grid()
    bone = identity.bone
    mottle = 0.6 * noise(rng, 26, 3) + 0.4 * noise(rng, 7, 2)
    blood = 0.55 * noise(rng, 34, 3) + _blush(identity, x, y)
    tone = np.exp(np.clip(mottle, -2.5, 2.5) * np.float32(0.035 + 0.02 * identity.age))
    dark = _hollows(identity, x, y)
    strength = np.float32(0.085 * (1 - 0.55 * identity.melanin))
    albedo = identity.skin * tone[..., None]
    albedo[..., 0] *= 1 + strength * 0.45 * blood
    albedo[..., 1] *= 1 - strength * 1.05 * blood
    albedo[..., 2] *= 1 - strength * 0.85 * blood
    albedo *= np.exp(-dark[..., None] * np.array([0.9, 1.1, 1.0], np.float32))
    pores = noise(rng, 1.7)
    bump = 0.17 * blur(pores, 0.5) + 0.09 * noise(rng, 4.0) + 0.10 * identity.age * noise(rng, 6, 2)
    quiet = 1 - 0.6 * pair(x, y, bone.eye_x, 240, 34, 20)
    bump *= quiet
    lasting = _lasting_lines(identity, rng)
    albedo *= 1 - 0.30 * lasting[..., None] * np.array([0.8, 1.0, 1.05], np.float32)
    bump -= 1.1 * lasting
    brow = _brows(identity, rng)
    ink = brow[..., None]
    albedo *= 1 - ink
    albedo += ink * identity.hair_colour * np.float32(0.55)
    return Skin(np.asarray(albedo, np.float32), np.asarray(bump, np.float32))


def _blush(identity: Identity, x: Field, y: Field) -> Field:
    bone = identity.bone
    field = 1.5 * pair(x, y, 78, 300, 30, 24) + 1.7 * gauss(x, y, 256, bone.nose_y, 22, 15)
    field += 0.9 * gauss(x, y, 256, bone.chin_y - 28, 26, 16) - 0.9 * gauss(x, y, 256, 150, 90, 40)
    field += 1.0 * pair(x, y, bone.eye_x, 246, 26, 12) + 0.8 * pair(x, y, 30, 246, 8, 8)
    return np.asarray(field, np.float32)


def _hollows(identity: Identity, x: Field, y: Field) -> Field:
    """Lasting darkness: under the eyes, eye sockets, nostrils, beard shadow of a shaved man."""
    bone, age = identity.bone, identity.age
    tip = bone.nose_y
    field = (0.10 + 0.12 * age) * pair(x, y, bone.eye_x - 10, 262, 19, 7)
    field += 0.10 * pair(x, y, bone.eye_x, 236, 30, 17) + 0.12 * pair(x, y, 30, 238, 9, 13)
    tilt = 0.35 * np.abs(x - 256)
    for side in (-1, 1):
        cx = 256 + side * bone.nose_width * 0.46
        hole = np.sqrt(((x - cx) / 7.2) ** 2 + ((y - tip - 14.5 + tilt * 0.25) / 3.6) ** 2)
        field = field + 1.5 * smoothstep(1.25, 0.55, np.asarray(hole, np.float32))
    field += 0.26 * pair(x, y, bone.nose_width + 11, tip + 7, 3.2, 8)
    field += 0.22 * gauss(x, y, 256, tip + 17, bone.nose_width, 4)
    jaw = smoothstep(345, 385, y - 0.10 * np.abs(x - 256)) * smoothstep(150, 90, np.abs(x - 256))
    lip = gauss(x, y, 256, bone.mouth_y - 22, 40, 10)
    shadow = identity.masculine * (0.10 + 0.05 * (1 - identity.melanin))
    return np.asarray(field + shadow * np.maximum(jaw, lip), np.float32)


def _lasting_lines(identity: Identity, rng: np.random.Generator) -> Field:
    """Fine lines of age [576, 576]; those of an expression come on top of them."""
    age, bone = identity.age, identity.bone
    strokes = []
    for k in range(int(1 + 3 * age)):
        y = 132 + 18 * k + rng.uniform(-4, 4)
        ends = rng.uniform(38, 82, 2)
        px = np.linspace(256 - ends[0], 256 + ends[1], 6)
        strokes.append(curve(np.stack([px, y + rng.normal(0, 1.8, 6)], 1)))
    for side in (-1, 1):
        for k in range(2):
            px = 256 + side * (bone.eye_x + np.array([-24, -8, 8, 20.0]))
            py = 259 + 6 * k + np.array([-3, 1.5, 1, -3.5]) + rng.normal(0, 0.6, 4)
            strokes.append(curve(np.stack([px, py], 1)))
        px = 256 + side * (bone.nose_width + np.array([15, 22, 28.0]))
        py = bone.nose_y + np.array([6, 20, 38.0])
        strokes.append(curve(np.stack([px, py], 1)))
    field = blur(lines(strokes, 1), 1.0) * np.float32(1.3)
    return np.asarray(np.clip(field, 0, 1) * np.float32(0.12 + 0.75 * age), np.float32)


def _brows(identity: Identity, rng: np.random.Generator) -> Field:
    bone, brow = identity.bone, identity.brow
    strokes = []
    hairs = int(150 + 170 * brow.density)
    for side in (-1, 1):
        along = rng.uniform(0, 1, hairs).astype(np.float32)
        across = rng.uniform(-1, 1, hairs).astype(np.float32)
        taper = np.minimum(1.0, 0.55 + 2.6 * along) * np.clip(2.2 * (1 - along), 0.16, 1)
        x = 23 + 80 * along
        peak = brow.arch * np.sin(np.pi * np.clip(along * 0.92, 0, 1)) ** 1.3
        y = bone.brow_y + 5 - peak + 6 * along**3 + across * brow.thickness * taper
        lean = np.radians(np.clip(72 - 95 * along - 22 * across, -14, 80))
        length = rng.uniform(7, 13, hairs) * (1 - 0.35 * along)
        x1, y1 = x + length * np.cos(lean) * 0.9, y - length * np.sin(lean) * 0.62
        for k in range(hairs):
            ends = [[256 + side * x[k], y[k]], [256 + side * x1[k], y1[k]]]
            strokes.append(np.asarray(ends, np.float32))
    fine = lines(strokes, 1)
    body = blur(fine, 2.0)
    return np.asarray(np.clip(0.8 * fine + 1.2 * body, 0, 0.95) * brow.density, np.float32)

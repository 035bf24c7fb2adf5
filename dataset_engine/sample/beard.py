"""Beards on the resting face: stubble, moustache, goatee, full."""

from __future__ import annotations

import cv2
import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    MARGIN,
    ONE,
    SHIFT,
    Field,
    Mask,
    blur,
    close,
    gauss,
    grid,
    grow,
    smoothstep,
)
from dataset_engine.sample.identity import BeardStyle, Identity
from dataset_engine.sample.shape import face_cover

HAIRS = {
    BeardStyle.STUBBLE: 3200,
    BeardStyle.MOUSTACHE: 1500,
    BeardStyle.GOATEE: 2600,
    BeardStyle.FULL: 6500,
}


def growth(identity: Identity, style: BeardStyle) -> Field:
    """Density [576, 576] in [0, 1] of the growth; stubble covers what a full beard would."""
    x, y = grid()
    bone = identity.bone
    out = np.abs(x - 256)
    lip, tip = bone.mouth_y, bone.nose_y
    top = tip + 22 + 0.05 * out
    moustache = smoothstep(top - 4, top + 4, y) * smoothstep(lip + 2, lip - 6, y)
    moustache = moustache * smoothstep(bone.mouth_width + 8, bone.mouth_width - 8, out + (lip - y))
    if style is BeardStyle.MOUSTACHE:
        return np.asarray(moustache, np.float32)
    chin = smoothstep(lip + 19, lip + 32, y + 0.012 * out**2)
    ring = smoothstep(bone.mouth_width + 4, bone.mouth_width + 11, out)
    ring = ring * smoothstep(bone.mouth_width + 24, bone.mouth_width + 15, out)
    ring = ring * smoothstep(lip - 26, lip - 12, y)
    wide, tall = bone.mouth_width + 20, bone.chin_y + 14 - lip
    oval = np.sqrt((out / wide) ** 2 + ((y - lip - 4) / tall) ** 2)
    round_chin = smoothstep(1.08, 0.84, oval)
    soul = gauss(x, y, 256, lip + 26, 9, 10)
    goatee = np.maximum(np.maximum(chin * round_chin, ring), np.minimum(soul * 1.4, 1))
    if style is BeardStyle.GOATEE:
        return np.asarray(np.maximum(goatee, moustache), np.float32)
    rise = 330 + 34 * smoothstep(112, 58, out) - 64 * smoothstep(104, 136, out)
    cheeks = smoothstep(rise - 9, rise + 12, y) * smoothstep(48, 62, out)
    return blur(np.asarray(np.max([goatee, moustache, cheeks], axis=0), np.float32), 3.0)


def beard_layer(identity: Identity, style: BeardStyle) -> tuple[Field, Field]:
    """Cover [576, 576] in [0, 1] and shade [576, 576] about 1 of one style's hairs.

    Every shot with the same style shows the same hairs.
    """
    rng = identity.stream(50 + int(style))
    density = growth(identity, style) * face_cover(identity)
    rows, columns = np.nonzero(density > 0.04)
    pick = rng.integers(0, len(rows), HAIRS[style])
    keep = rng.uniform(size=len(pick)) < density[rows[pick], columns[pick]]
    x = columns[pick][keep] + rng.uniform(0, 1, keep.sum()) - MARGIN
    y = rows[pick][keep] + rng.uniform(0, 1, keep.sum()) - MARGIN
    short = style is BeardStyle.STUBBLE
    length = rng.uniform(1.2, 2.6, len(x)) if short else rng.uniform(6, 12, len(x))
    lip = identity.bone.mouth_y
    out = np.clip((x - 256) / 90, -1, 1)
    angle = np.pi / 2 - out * np.where(y < lip, 1.1, 0.55) + rng.normal(0, 0.28, len(x))
    bend = angle + rng.normal(0, 0.35, len(x))
    half = np.stack([x + length * 0.5 * np.cos(angle), y + length * 0.5 * np.sin(angle)], 1)
    tips = half + (length * 0.5)[:, None] * np.stack([np.cos(bend), np.sin(bend)], 1)
    hairs = np.stack([np.stack([x, y], 1), half, tips], 1)
    fixed = np.round((hairs + MARGIN) * ONE).astype(np.int32)
    tone = np.clip(rng.normal(0.5, 0.2, len(x)), 0.05, 1)
    cover, shade = np.zeros((CANVAS, CANVAS), np.uint8), np.full((CANVAS, CANVAS), 110, np.uint8)
    cv2.polylines(cover, list(fixed), False, 255, 1, cv2.LINE_AA, SHIFT)
    for bucket in range(6):
        chosen = (tone * 5.999).astype(int) == bucket
        level = 50 + 36 * bucket
        cv2.polylines(shade, list(fixed[chosen]), False, level, 1, cv2.LINE_AA, SHIFT)
    fine = np.asarray(cover, np.float32) / np.float32(255)
    base = blur(fine, 3.0)
    dense = (0.5, 0.42) if short else (0.5, 1.25)
    total = np.clip(dense[0] * fine + dense[1] * base, 0, 0.97)
    edge = smoothstep(0.02, 0.12, density)
    return np.asarray(total * edge, np.float32), np.asarray(shade, np.float32) / np.float32(128)


def beard_area(identity: Identity, style: BeardStyle) -> Mask:
    """The skin [576, 576] that a style covers, as a person would paint it."""
    return close(grow(growth(identity, style) > 0.12, 4), 5)

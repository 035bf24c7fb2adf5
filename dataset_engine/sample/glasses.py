"""Glasses: rims, bridge, arms and lenses in front of the face, and their shadow on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dataset_engine.sample.fields import (
    ONE,
    SHIFT,
    SIZE,
    Field,
    Mask,
    blur,
    close,
    curve,
    fill,
    glaze,
    grow,
    linear,
    rgb,
    smoothstep,
    tinted,
)
from dataset_engine.sample.geometry import Geometry
from dataset_engine.sample.identity import Identity
from dataset_engine.sample.shape import coarse, half_width

FRAMES = ((22, 20, 20), (92, 52, 26), (44, 52, 74), (140, 26, 34), (176, 150, 96), (120, 122, 126))
SHADOW = 7.0  # px that the shadow falls from the rim, away from the light


@dataclass(frozen=True)
class Glasses:
    """Covers [512, 512] in [0, 1] in one shot's image, and the frame's look."""

    frame: Field
    lens: Field
    shadow: Field
    colour: Field
    tint: Field
    strength: float


def draw_glasses(identity: Identity, view: Geometry, light: Field) -> Glasses:
    """The identity's glasses on its face in this shot; `light` points to the light (camera)."""
    rng = identity.stream(80)
    kind = int(rng.integers(0, 4))
    thick = float(rng.uniform(4.5, 7.5)) if kind < 3 else float(rng.uniform(2.6, 3.4))
    frame_colour = linear(FRAMES[int(rng.integers(0, 4) if kind < 3 else rng.integers(4, 6))])
    tinted = rng.uniform() < 0.3
    tint = linear(((70, 60, 54), (60, 74, 84), (96, 74, 46))[int(rng.integers(0, 3))])
    rims = [_rim(identity, kind, side) for side in (-1, 1)]
    front = _front_depth(view)
    placed = [_place(view, rim, front) for rim in rims]
    scale = float(np.sqrt(abs(np.linalg.det(view.project[:, :2]))))
    width = max(2, round(thick * scale))
    size = (SIZE, SIZE)
    lens = fill(placed, size, 0.0)
    frame = _stroke(placed, width, closed=True)
    inner = [rim[np.argmin(np.abs(rim[:, 0] - 256))] for rim in rims]
    bow = np.array([inner[0], [256, inner[0][1] - 7], inner[1]], np.float32)
    bridge = _place(view, curve(bow), front + 1)
    frame = np.maximum(frame, _stroke([bridge], max(2, round(width * 0.9)), closed=False))
    arms = _arms(identity, view, rims, front)
    if arms:
        frame = np.maximum(frame, _stroke(arms, max(2, round(width * 0.8)), closed=False))
    drop = np.array([[1, 0, -SHADOW * light[0]], [0, 1, -SHADOW * light[1] + 1.5]], np.float32)
    fallen = cv2.warpAffine(frame, drop, size)
    shadow = blur(np.asarray(fallen, np.float32), 2.6)
    strength = 0.62 if tinted else 0.07
    return Glasses(frame, lens * (1 - frame), shadow, frame_colour, tint, strength)


def _rim(identity: Identity, kind: int, side: int) -> Field:
    half_x, half_y, power = ((43, 27, 4.0), (37, 34, 2.0), (44, 30, 2.6), (39, 30, 2.2))[kind]
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    x = half_x * np.sign(c) * np.abs(c) ** (2 / power)
    y = half_y * np.sign(s) * np.abs(s) ** (2 / power)
    if kind == 2:  # a cat's or aviator's droop
        y = y + 0.10 * x * (y > 0) - 4 * (x > 20) * (y < 0)
    cx = identity.bone.eye_x + 1.5
    return np.asarray(np.stack([256 + side * (cx + x), 246 + y], 1), np.float32)


def _front_depth(view: Geometry) -> float:
    """Depth in px of the front: a little before the bridge of the nose."""
    column, row = coarse(np.array([256, 252], np.float32))
    return float(view.z[round(float(row)), round(float(column))]) + 7


def _place(view: Geometry, line: Field, front: float) -> Field:
    bend = 0.0011 * (line[:, :1] - 256) ** 2
    return view.place(np.asarray(np.concatenate([line, front - bend], axis=1), np.float32))


def _arms(identity: Identity, view: Geometry, rims: list[Field], front: float) -> list[Field]:
    arms = []
    for side, rim in zip((-1, 1), rims, strict=True):
        outer = rim[np.argmax(side * rim[:, 0])]
        y = np.float32(234)
        width = float(half_width(identity.bone, np.array([y], np.float32))[0])
        bend = 0.0011 * (outer[0] - 256) ** 2
        hinge = np.array([[outer[0], y, front - bend]], np.float32)
        ear = np.array([[256 + side * (width + 3), y + 2, 8]], np.float32)
        a, b = view.place(hinge)[0], view.place(ear)[0]
        if side * (b[0] - a[0]) > 0:
            arms.append(np.asarray(np.stack([a, b]), np.float32))
    return arms


def _stroke(paths: list[Field], width: int, closed: bool) -> Field:
    image = np.zeros((SIZE, SIZE), np.uint8)
    fixed = [np.round(path * ONE).astype(np.int32) for path in paths]
    cv2.polylines(image, fixed, closed, 255, width, cv2.LINE_AA, SHIFT)
    return blur(np.asarray(image, np.float32) / np.float32(255), 0.6)


def wear(image: Field, glasses: Glasses, light: Field) -> Field:
    """Put glasses on a lit image [512, 512, 3]."""
    y = np.linspace(-1, 1, SIZE, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)[None, :]
    fade = np.float32(glasses.strength) * (1 if glasses.strength < 0.3 else (0.75 - 0.6 * y))
    cover = np.asarray(glasses.lens * np.clip(fade, 0, 0.8), np.float32)
    image = image.copy()
    glaze(image, cover, glasses.tint * np.float32(0.5))
    sheen = smoothstep(0.85, 1.0, np.sin(7.0 * (x + 0.8 * y) + 3 * light[0])) * 0.055
    image += rgb(np.asarray(glasses.lens * sheen, np.float32))
    edge = blur(glasses.frame, 1.5)
    shine = 0.75 + 1.3 * np.clip(cv2.Sobel(edge, cv2.CV_32F, 0, 1, ksize=3), 0, 1)
    frame = tinted(np.asarray(shine, np.float32), glasses.colour) + np.float32(0.02)
    return image + (frame - image) * rgb(glasses.frame)


def glasses_area(glasses: Glasses) -> Mask:
    """Frame, lenses and shadow [512, 512], as a person would paint them."""
    seen = (glasses.frame > 0.04) | (glasses.lens > 0.04) | (glasses.shadow > 0.05)
    return close(grow(np.asarray(seen), 2), 4)

"""The head's form: its outline, its relief, and how an expression moves the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    Field,
    blur,
    curve,
    fill,
    gauss,
    grid,
    pair,
    sample,
    smoothstep,
)
from dataset_engine.sample.identity import Bone, Identity
from dataset_engine.sample.shot import Expression, Mouth

STEP = 2  # relief and motion are smooth: one value for 2x2 canvas pixels is plenty
JAW_DROP = 34.0  # px between the lips at the widest opening


def outline(bone: Bone) -> Field:
    """The closed frontal contour [N, 2] of the skin, crown to chin."""
    span = bone.chin_y - 390
    right = [
        (0, bone.top_y),
        (58, bone.top_y + 6),
        (108, bone.top_y + 40),
        (bone.temple - 5, bone.top_y + 92),
        (bone.temple, 175),
        (bone.cheek, 235),
        (bone.cheek - 2, 290),
        ((bone.cheek + bone.jaw) / 2 + 5, 345),
        (bone.jaw, 390),
        ((bone.jaw + bone.chin) / 2 + 7, 390 + 0.56 * span),
        (bone.chin, 390 + 0.86 * span),
        (bone.chin * 0.5, 390 + 0.985 * span),
    ]
    points = [(256 + x, y) for x, y in right]
    points += [(256, bone.chin_y)]
    points += [(256 - x, y) for x, y in reversed(right[1:])]
    return curve(points, samples=10, closed=True)


def face_cover(identity: Identity) -> Field:
    """Where the resting face is [576, 576], crown to chin, in [0, 1]."""
    return blur(fill([outline(identity.bone)]), 0.7)


def half_width(bone: Bone, y: Field) -> Field:
    """The outline's half width in px at rows `y`; a little over zero beyond crown and chin."""
    contour = outline(bone)
    right = contour[: len(contour) // 2 + 1]
    order = np.argsort(right[:, 1])
    width = np.interp(y, right[order, 1], right[order, 0] - 256, left=8.0, right=8.0)
    return np.asarray(np.maximum(width, 8.0), np.float32)


def relief(identity: Identity) -> Field:
    """Depth towards the viewer in px [288, 288] of the resting face."""
    bone = identity.bone
    x, y = grid(STEP)
    r = np.minimum(_eccentricity(bone, x, y), 1.0)
    z = 122 * np.sqrt(1 - 0.90 * r**2.5)
    return np.asarray(z + _features(bone, identity.age, x, y), np.float32)


def _eccentricity(bone: Bone, x: Field, y: Field) -> Field:
    """0 in the middle of the face, 1 on its outline, along rays from the middle."""
    centre_y = 262.0
    contour = outline(bone) - np.array([256, centre_y], np.float32)
    angle, radius = np.arctan2(contour[:, 0], contour[:, 1]), np.hypot(contour[:, 0], contour[:, 1])
    order = np.argsort(angle)
    turn = np.arctan2(x - 256, y - centre_y)
    reach = np.interp(turn, angle[order], radius[order], period=2 * np.pi)
    return np.asarray(np.hypot(x - 256, y - centre_y) / reach, np.float32)


def _features(bone: Bone, age: float, x: Field, y: Field) -> Field:
    ey, mouth = 240.0, bone.mouth_y
    z = bone.brow_ridge * pair(x, y, 50, bone.brow_y + 6, 34, 11)
    z += 3.0 * gauss(x, y, 256, 214, 18, 14) + 4 * pair(x, y, 42, 140, 44, 40)
    z -= 15 * pair(x, y, bone.eye_x - 2, ey, 27, 17) + 9 * pair(x, y, 27, ey - 2, 11, 14)
    z += 12 * pair(x, y, bone.eye_x, ey, 19, 14)
    z -= (1.5 + 2 * age) * pair(x, y, bone.eye_x - 8, ey + 21, 20, 5)
    z += 2.5 * age * pair(x, y, bone.eye_x - 2, ey + 15, 20, 5)
    z += bone.cheekbone * pair(x, y, 80, 287, 34, 24) - 4 * pair(x, y, 92, 352, 26, 30)
    z += _nose(bone, x, y)
    z += 9 * gauss(x, y, 256, mouth - 4, 50, 32)
    z -= 2.4 * gauss(x, y, 256, (bone.nose_y + mouth) / 2 + 4, 4.5, 10)
    z += 1.2 * pair(x, y, 9, (bone.nose_y + mouth) / 2 + 4, 4, 10)
    z += 4.5 * gauss(x, y, 256, mouth - 7, 30, 6) + 6.5 * gauss(x, y, 256, mouth + 10, 26, 7.5)
    z -= 4 * gauss(x, y, 256, mouth + 1, 30, 2.8) + 2 * pair(
        x, y, bone.mouth_width + 2, mouth, 6, 8
    )
    z -= 6 * gauss(x, y, 256, mouth + 32, 30, 7)
    z += 9 * gauss(x, y, 256, bone.chin_y - 26, 25, 17)
    z -= (1.5 + 3 * age) * _fold(bone, x, y)
    return np.asarray(z, np.float32)


def _nose(bone: Bone, x: Field, y: Field) -> Field:
    tip, high = bone.nose_y, bone.nose_height
    rise = smoothstep(222, tip - 4, y) * 0.75 + 0.25 * smoothstep(196, 226, y)
    end = 1 - smoothstep(tip + 3, tip + 19, y)
    side = bone.nose_bridge + (bone.nose_width * 0.62 - bone.nose_bridge) * smoothstep(250, tip, y)
    z = high * rise * end * np.exp(-0.5 * ((x - 256) / side) ** 2)
    z = z + 0.36 * high * gauss(x, y, 256, tip - 1, 11, 10)
    z = z + 0.44 * high * pair(x, y, bone.nose_width, tip + 6, 7.5, 7.5)
    z = z - 3.5 * pair(x, y, bone.nose_width + 12, tip + 5, 5, 9)
    z = z - 2.5 * pair(x, y, bone.nose_width * 0.55, tip + 2, 3.5, 6)
    return np.asarray(z, np.float32)


def _fold(bone: Bone, x: Field, y: Field) -> Field:
    line = 256 - np.abs(x - 256) + bone.nose_width + 16 + (y - bone.nose_y) * 0.42
    near = np.exp(-0.5 * ((line - 256) / 5) ** 2)
    return np.asarray(near * gauss(x * 0, y, 0, bone.nose_y + 34, 1, 22), np.float32)


def mouth_corners(bone: Bone, expression: Expression) -> Field:
    """Left and right mouth corner [2, 2] on the canonical canvas."""
    smile = expression.smile
    narrow = 4.0 if expression.mouth is Mouth.OPEN else 0.0
    half = bone.mouth_width + 9 * max(smile, 0) - narrow
    y = bone.mouth_y - 10 * max(smile, 0) - 7 * min(smile, 0) + 7 * expression.gap * (narrow > 0)
    return np.asarray([[256 - half, y], [256 + half, y]], np.float32)


@dataclass(frozen=True)
class Motion:
    """Where the skin seen at a canvas place rests: rest = place - (dx, dy), px [288, 288]."""

    dx: Field
    dy: Field


def motion(bone: Bone, expression: Expression) -> Motion:
    """How this expression moves the skin."""
    x, y = grid(STEP)
    smile, sad = max(expression.smile, 0), max(-expression.smile, 0)
    right = (gauss(x, y, 256 + 56, bone.mouth_y, 30, 26), gauss(x, y, 256 + 74, 296, 36, 30))
    left = (gauss(x, y, 256 - 56, bone.mouth_y, 30, 26), gauss(x, y, 256 - 74, 296, 36, 30))
    dx = (8 * smile) * (right[0] - left[0])
    dy = (-9 * smile + 6 * sad) * (right[0] + left[0]) - 5 * smile * (right[1] + left[1])
    brows = pair(x, y, 52, bone.brow_y, 40, 17)
    dy = dy - 9 * expression.brow_lift * brows
    inner = (gauss(x, y, 256 + 26, bone.brow_y, 22, 16), gauss(x, y, 256 - 26, bone.brow_y, 22, 16))
    dx = dx - 4 * expression.frown * (inner[0] - inner[1])
    dy = dy + 6 * expression.frown * (inner[0] + inner[1])
    drop = JAW_DROP * expression.gap
    if drop > 0:
        near = 1 - smoothstep(60, 150, np.abs(x - 256)) * 0.55
        dy = dy + drop * near * smoothstep(0, 26 + 1.75 * drop, y - bone.mouth_y + 4)
    return Motion(np.asarray(dx, np.float32), np.asarray(dy, np.float32))


def coarse(position: Field) -> Field:
    """Index into a [288, 288] field of canonical coordinates."""
    full = CANVAS / 2 - 256
    return np.asarray((position + full - (STEP - 1) / 2) / STEP, np.float32)


def moved_relief(rest: Field, expression: Expression, move: Motion) -> Field:
    """The relief [288, 288] under an expression."""
    x, y = grid(STEP)
    last = np.float32(rest.shape[0] - 1.01)
    px, py = np.clip(coarse(x - move.dx), 0, last), np.clip(coarse(y - move.dy), 0, last)
    z = sample(rest, px, py)
    smile = max(expression.smile, 0)
    z = z + 6 * smile * pair(x, y, 76, 300, 32, 20)
    z = z - 1.2 * expression.gap * pair(x, y, 84, 370, 22, 30)
    return np.asarray(z, np.float32)

"""The mouth on the moved face: lips, teeth, tongue. Painted twice as fine, then carried over."""

from __future__ import annotations

import numpy as np

from dataset_engine.sample.eyes import FINE, Patch, over
from dataset_engine.sample.fields import Field, Mask, blur, smoothstep
from dataset_engine.sample.identity import Bone, Identity
from dataset_engine.sample.shape import JAW_DROP, mouth_corners
from dataset_engine.sample.shot import Expression, Mouth, Shot
from dataset_engine.sample.surface import make_up_colours

ABOVE, BELOW, SIDE = 34, 72, 78


def lip_lines(bone: Bone, expression: Expression, t: Field) -> tuple[Field, Field, Field, Field]:
    """Upper lip top and bottom, lower lip top and bottom (canonical y) at t in [-1, 1]."""
    corners = mouth_corners(bone, expression)
    lift = float(corners[0, 1]) - bone.mouth_y
    arc = np.clip(1 - t * t, 0, 1)
    drop = JAW_DROP * expression.gap
    middle = bone.mouth_y + lift * t * t
    stretch = 1 - 0.16 * max(expression.smile, 0) - 0.1 * expression.gap
    bow = 1 + 0.16 * np.exp(-(((np.abs(t) - 0.2) / 0.13) ** 2)) - 0.16 * np.exp(-((t / 0.09) ** 2))
    raised = 0.16 * drop + (2.0 if expression.mouth is Mouth.TEETH else 0.0)
    inner_top = middle - raised * arc**0.7
    top = inner_top - bone.upper_lip * stretch * arc**0.75 * bow - 0.6
    tooth = 1.2 * np.exp(-((t / 0.14) ** 2)) - 0.7 * np.exp(-(((np.abs(t) - 0.3) / 0.18) ** 2))
    inner_low = middle + drop * arc**0.62 + tooth * (1 - min(3 * expression.gap, 1))
    if drop == 0:
        inner_top = inner_low
    low = np.maximum(inner_low, middle) + bone.lower_lip * stretch * arc**0.62 + 0.6
    return tuple(np.asarray(v, np.float32) for v in (top, inner_top, inner_low, low))  # type: ignore[return-value]


def mouth_patch(identity: Identity, shot: Shot) -> Patch:
    """The mouth as the shot holds it, with its lipstick."""
    bone, expression = identity.bone, shot.expression
    corners = mouth_corners(bone, expression)
    half = float(corners[1, 0]) - 256
    left, top_edge = 256.0 - SIDE, bone.mouth_y - ABOVE
    x = (np.arange(2 * SIDE * FINE, dtype=np.float32) + 0.5) / FINE + left
    y = ((np.arange((ABOVE + BELOW) * FINE, dtype=np.float32) + 0.5) / FINE + top_edge)[:, None]
    wide = np.abs((x - 256) / half)[None, :]
    t = np.clip((x - 256) / half, -1.0, 1.0)
    top, inner_top, inner_low, low = (v[None, :] for v in lip_lines(bone, expression, t))
    t = t[None, :]
    upper = smoothstep(-1.6, 1.2, np.minimum(y - top, inner_top - y + 0.9))
    lower = smoothstep(-1.6, 1.4, np.minimum(y - inner_low + 0.9, low - y))
    edge = smoothstep(1.0, 0.93, np.abs(t))
    lips = np.maximum(upper, lower) * edge
    hole = smoothstep(-0.5, 0.6, np.minimum(y - inner_top, inner_low - y)) * edge
    colour = np.zeros((*hole.shape, 4), np.float32)
    over(colour, _lip_colour(identity, shot, (x, y, top, inner_top, inner_low, low)), lips)
    if expression.mouth is not Mouth.CLOSED:
        over(colour, _inside(expression, (x, y, inner_top, inner_low)), hole)
    seam = np.exp(-0.5 * ((y - inner_top) / 1.15) ** 2) + np.exp(
        -0.5 * ((y - inner_low) / 1.15) ** 2
    )
    deep = 0.82 * np.clip(seam, 0, 1) * smoothstep(1.07, 0.94, wide)
    corner = 0.5 * np.exp(-0.5 * (((np.abs(x - 256)[None, :] - half) / 3.0) ** 2))
    corner = corner * np.exp(-0.5 * ((y - float(corners[0, 1])) / 2.6) ** 2)
    dark = identity.lip * np.array([0.13, 0.08, 0.08], np.float32)
    over(colour, dark, np.asarray(np.clip(np.maximum(deep, corner), 0, 0.9), np.float32))
    wet = np.exp(-0.5 * ((y - inner_low - 0.42 * (low - inner_low)) / 2.7) ** 2) * (1 - t * t)
    shine = 0.045 + 0.07 * shot.make_up.lips
    lines = 0.6 + 0.4 * _lip_lines_noise(identity, x)[None, :]
    gloss = np.asarray(shine * wet * lower * lines, np.float32)
    return Patch(left, top_edge, blur(colour, 0.6), blur(gloss, 0.6))


def _lip_lines_noise(identity: Identity, x: Field) -> Field:
    knots = identity.stream(62).normal(0, 1, 80)
    return np.asarray(np.interp(x, np.linspace(160, 352, 80), knots), np.float32)


def _lip_colour(identity: Identity, shot: Shot, place: tuple[Field, ...]) -> Field:
    x, y, top, inner_top, inner_low, low = place
    base = identity.lip
    strength = np.float32(0.85 * shot.make_up.lips)
    if strength > 0:
        base = base * (1 - strength) + strength * make_up_colours(identity)[0]
    upper = np.clip((y - top) / np.maximum(inner_top - top, 1), 0, 1)
    lower = np.clip((low - y) / np.maximum(low - inner_low, 1), 0, 1)
    is_upper = y < (inner_top + inner_low) / 2
    depth = np.where(is_upper, upper, lower)
    shade = np.where(is_upper, 0.92 - 0.18 * depth, 1.08 - 0.20 * depth)
    shade = shade * (1 + 0.045 * _lip_lines_noise(identity, x)[None, :])
    return np.asarray(base * shade[..., None], np.float32)


def _inside(expression: Expression, place: tuple[Field, ...]) -> Field:
    x, y, inner_top, inner_low = place
    gap = np.maximum(inner_low - inner_top, 0.5)
    depth = np.clip((y - inner_top) / gap, 0, 1)
    deep = np.array([0.070, 0.016, 0.014], np.float32)
    colour = np.broadcast_to(deep, (*depth.shape, 3)) * (0.5 + 0.8 * depth)[..., None]
    if expression.mouth is Mouth.OPEN:
        tongue = np.exp(-0.5 * (((x - 256) / 24)[None, :] ** 2 + ((depth - 1.08) / 0.27) ** 2))
        colour = colour + tongue[..., None] * np.array([0.26, 0.080, 0.074], np.float32)
        lower_teeth = smoothstep(0.86, 0.97, depth) * smoothstep(30, 18, np.abs(x - 256))[None, :]
        colour = colour * (1 - 0.5 * lower_teeth[..., None]) + 0.20 * lower_teeth[..., None]
    out = np.abs(x - 256)[None, :]
    height = np.where(expression.mouth is Mouth.OPEN, 11.5, 13.0) - 0.0016 * out**2
    arc = 0.0022 * out**2
    edges = np.cumsum([0, 9.0, 7.4, 7.6, 6.6, 6.2, 5.8])
    nearest = np.min(np.abs(out[..., None] - edges), axis=-1)
    parts = np.exp(-0.5 * (nearest / 0.55) ** 2)
    scallop = 1.1 * np.exp(-0.5 * (nearest / 1.3) ** 2)
    bottom = inner_top + height - arc - scallop
    teeth = smoothstep(0.7, -0.7, y - bottom) * smoothstep(46, 40, out)
    shade = np.clip(1.0 - 0.00035 * out**2, 0.25, 1) * (1 - 0.42 * parts)
    shade = shade * (0.62 + 0.38 * smoothstep(0, 5, y - inner_top))
    ivory = np.array([0.72, 0.66, 0.56], np.float32)
    colour = colour * (1 - teeth[..., None]) + (ivory * shade[..., None]) * teeth[..., None]
    return np.asarray(colour, np.float32)


def mouth_area(
    identity: Identity, expression: Expression, x: Field, y: Field, margin: float = 4.0
) -> Mask:
    """Lips and mouth opening at canonical (x, y), with a brush's margin in px."""
    bone = identity.bone
    half = float(mouth_corners(bone, expression)[1, 0]) - 256 + margin
    # a twentieth of the pixels, and the lines are dear
    area = (np.abs(x - 256) < half) & (y > bone.mouth_y - ABOVE) & (y < bone.mouth_y + BELOW)
    x, y = x[area], y[area]
    top, _, _, low = lip_lines(bone, expression, np.asarray((x - 256) / half, np.float32))
    area[area] = (y > top - margin) & (y < low + margin)
    return np.asarray(area)

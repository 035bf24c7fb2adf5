"""Eyes on the moved face: lids, sclera, iris, lashes. Painted twice as fine, then carried over."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dataset_engine.sample.fields import Field, Mask, blur, lines, rgb, smoothstep, tinted
from dataset_engine.sample.identity import Identity
from dataset_engine.sample.shot import Expression, Light

FINE = 2
HALF_WIDTH, ABOVE, BELOW = 48, 36, 28
EYE_Y = 240.0


@dataclass(frozen=True)
class Patch:
    """A finely painted part of the moved face.

    Attributes:
        x: canonical x of the patch's left edge; `y` the same for its top.
        y: see `x`.
        colour: [h, w, 4], premultiplied linear albedo and cover.
        gloss: [h, w], light added on top.
    """

    x: float
    y: float
    colour: Field
    gloss: Field


def eye_patch(identity: Identity, expression: Expression, light: Light, side: int) -> Patch:
    """The eye at image left (`side` -1) or right (+1) as the expression holds it."""
    shape = identity.eye
    cx = 256 + side * identity.bone.eye_x
    across = (np.arange(2 * HALF_WIDTH * FINE, dtype=np.float32) + 0.5) / FINE - HALF_WIDTH
    down = (np.arange((ABOVE + BELOW) * FINE, dtype=np.float32) + 0.5) / FINE - ABOVE
    x, y = across[None, :], down[:, None]
    u = np.broadcast_to(side * x, (len(down), len(across)))  # towards the temple
    v = np.asarray(y + shape.tilt * u, np.float32)
    upper, lower = lid_lines(identity, expression, np.asarray(u[:1], np.float32))
    inside = smoothstep(-0.6, 0.6, np.minimum(v - upper, lower - v))
    inside = inside * smoothstep(shape.width + 0.6, shape.width - 0.6, np.abs(u))
    if expression.closed_eyes:
        inside = np.zeros_like(inside)
    ball, gloss = _ball(identity, expression, light, side, (np.asarray(u), v, upper, lower))
    lash = _lashes(identity, expression, side)
    rim = np.exp(-0.5 * ((v - upper) / 1.3) ** 2) * _within(u, shape.width + 2)
    line = np.clip((0.45 + 0.4 * shape.lashes) * rim + lash, 0, 0.95)
    crease_gap = shape.fold * (0.8 + 0.5 * (1 - min(expression.openness, 1)))
    crease = np.exp(
        -0.5 * ((v - upper + crease_gap * (1 - 0.2 * (u / shape.width) ** 2)) / 1.5) ** 2
    )
    crease = 0.34 * crease * _within(u, shape.width + 3)
    if expression.closed_eyes:
        crease = crease * 0.5
    under = 0.22 * np.exp(-0.5 * ((v - lower - 1.2) / 1.6) ** 2) * _within(u, shape.width)
    skin_dark = np.clip(np.maximum(crease, under), 0, 1) * (1 - inside)
    dark = identity.skin * np.float32(0.16)
    colour = np.zeros((*v.shape, 4), np.float32)
    over(colour, dark, skin_dark)
    over(colour, ball, inside)
    wet = np.exp(-0.5 * ((v - lower + 0.9) / 0.9) ** 2) * _within(u, shape.width - 2)
    lid_rim = identity.skin * np.array([1.05, 0.82, 0.80], np.float32)
    over(colour, lid_rim, np.asarray(0.75 * wet * (inside > 0), np.float32))
    ink = np.array([0.012, 0.009, 0.008], np.float32)
    over(colour, ink, np.asarray(line, np.float32))
    gloss = gloss * inside * (1 - line)
    return Patch(cx - HALF_WIDTH, EYE_Y - ABOVE, blur(colour, 0.55), blur(gloss, 0.5))


def lid_lines(identity: Identity, expression: Expression, u: Field) -> tuple[Field, Field]:
    """The lids' edges (v, px down from the eye's axis) at places `u` towards the temple."""
    shape = identity.eye
    t = np.clip(u / shape.width, -1, 1)
    arch = (1 - t * t) ** 0.72 * (1 - 0.17 * t)
    bowl = (1 - t * t) ** 0.85 * (1 + 0.22 * t)
    squint = 0.28 * max(expression.smile - 0.3, 0)
    lower = shape.lower * bowl * (1 - squint)
    shut = shape.lower * 0.72 * bowl
    opened = expression.openness * (1 - 0.5 * squint)
    upper = shut + (-shape.upper * arch - shut) * opened
    return np.asarray(upper, np.float32), np.asarray(np.maximum(lower, upper), np.float32)


def _within(u: Field, width: float) -> Field:
    return smoothstep(width + 1.5, width - 4, np.asarray(np.abs(u), np.float32))


def over(colour: Field, paint: Field, cover: Field) -> None:
    """Lay a paint ([3] or [h, w, 3]) over a premultiplied patch [h, w, 4], in place."""
    cover = np.asarray(cover, np.float32)
    added = tinted(cover, paint) if paint.ndim == 1 else np.asarray(paint, np.float32) * rgb(cover)
    keep = 1 - cover
    colour *= np.asarray(cv2.merge((keep, keep, keep, keep)), np.float32)
    colour += np.asarray(cv2.merge((*cv2.split(added), cover)), np.float32)


def _ball(
    identity: Identity,
    expression: Expression,
    light: Light,
    side: int,
    place: tuple[Field, Field, Field, Field],
) -> tuple[Field, Field]:
    """Albedo [h, w, 3] and gloss [h, w] of the eyeball between the lids."""
    rng = identity.stream(60)
    u, v, upper, lower = place
    width = identity.eye.width
    t = u / width
    white = np.array([0.56, 0.535, 0.515], np.float32)
    fall = np.clip(1 - 0.34 * t**2 - 0.10 * np.clip(v / 9, -1, 1) ** 2, 0.3, 1)
    ball = white * fall[..., None]
    pink = smoothstep(0.45, 1.0, np.abs(t))[..., None]
    ball *= 1 - pink * np.array([0.02, 0.22, 0.24], np.float32)
    corner = smoothstep(-width + 7, -width + 1, np.asarray(u + 0.1 * v, np.float32))[..., None]
    ball = ball * (1 - corner) + corner * np.array([0.52, 0.24, 0.22], np.float32)
    gaze_x, gaze_y = expression.gaze
    dx, dy = u - side * gaze_x, v - (gaze_y - 1.2)
    radius = 11.6
    rho = np.sqrt(dx**2 + dy**2) / radius
    iris = _iris(identity, rng, dx, dy, rho)
    on_iris = smoothstep(1.04, 0.95, np.asarray(rho, np.float32))[..., None]
    ball = ball * (1 - on_iris) + iris * on_iris
    shade = 1 - 0.55 * np.exp(-np.maximum(v - upper, 0) / 3.2)
    shade *= 1 - 0.16 * np.exp(-np.maximum(lower - v, 0) / 2.0)
    ball = ball * shade[..., None]
    lx, ly = float(light.direction[0]) * side, float(light.direction[1])
    spot = np.hypot((dx - 5.0 * lx) / 2.2, (dy - 6.0 * ly) / 2.5)
    gloss = 0.95 * smoothstep(1.25, 0.75, np.asarray(spot, np.float32))
    window = np.hypot((dx + 3.5 * lx) / 2.6, (dy + 5.5 * ly) / 1.6)
    gloss += 0.10 * smoothstep(1.3, 0.5, np.asarray(window, np.float32))
    return np.asarray(ball, np.float32), np.asarray(gloss, np.float32)


def _iris(identity: Identity, rng: np.random.Generator, dx: Field, dy: Field, rho: Field) -> Field:
    turn = (np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 95.999
    fibre = rng.normal(0, 1, 97)
    fibre[-1] = fibre[0]
    coarse = rng.normal(0, 1, 25)
    coarse[-1] = coarse[0]
    rays = np.interp(turn, np.arange(97), fibre) * 0.16
    rays += np.interp(turn / 4, np.arange(25), coarse) * 0.10
    base = identity.eye.iris
    bright = 1.15 + rays * smoothstep(0.3, 0.6, rho) + 0.35 * np.clip(dy / 11, -0.6, 1)
    ring = smoothstep(0.78, 1.0, rho)
    warm = np.exp(-0.5 * ((rho - 0.46) / 0.10) ** 2)
    iris = base * np.clip(bright, 0.25, 2)[..., None]
    iris = iris + (0.45 * warm)[..., None] * base * np.array([1.3, 0.95, 0.6], np.float32)
    iris = iris * (1 - 0.82 * ring)[..., None]
    pupil = smoothstep(0.40, 0.33, rho)[..., None]
    return np.asarray(iris * (1 - pupil) + 0.004 * pupil, np.float32)


def _lashes(identity: Identity, expression: Expression, side: int) -> Field:
    shape, rng = identity.eye, identity.stream(61)
    count = int(24 + 26 * shape.lashes)
    u = np.linspace(-shape.width + 4, shape.width + 0.5, count) + rng.normal(0, 0.5, count)
    upper, lower = lid_lines(identity, expression, np.asarray(u, np.float32))
    t = u / shape.width
    length = (3.5 + 5.0 * shape.lashes) * (0.7 + 0.5 * t) * rng.uniform(0.7, 1.15, count)
    droop = 1.0 if expression.closed_eyes else -1.0
    strokes = []
    for k in range(count):
        lift = droop * (0.75 if droop < 0 else 0.55)
        root = np.array([u[k], upper[k]])
        mid = root + length[k] * np.array([0.28 * (t[k] + 0.35), 0.45 * lift])
        tip = root + length[k] * np.array([0.75 * (t[k] + 0.35), lift])
        strokes.append(np.stack([root, mid, tip]))
    heavy = _draw(identity, side, strokes)
    strokes = []
    if not expression.closed_eyes:
        for k in range(4, count, 2):
            root = np.array([u[k], lower[k] + 0.4])
            tip = root + np.array([0.3 * t[k], 0.62]) * length[k] * 0.5
            strokes.append(np.stack([root, tip]))
    faint = _draw(identity, side, strokes) if strokes else np.zeros_like(heavy)
    return np.asarray((0.55 + 0.35 * shape.lashes) * heavy + 0.3 * faint, np.float32)


def _draw(identity: Identity, side: int, strokes: list[Field]) -> Field:
    size = (2 * HALF_WIDTH * FINE, (ABOVE + BELOW) * FINE)
    drawn = []
    for stroke in strokes:
        x = side * stroke[:, 0]
        y = stroke[:, 1] - identity.eye.tilt * stroke[:, 0]
        at = np.stack([x + HALF_WIDTH, y + ABOVE], 1)
        drawn.append(np.asarray(at * FINE - 0.5, np.float32))
    return lines(drawn, 1, size, 0.0)


def eye_area(identity: Identity, side: int, x: Field, y: Field) -> Mask:
    """Where an eye shows, open or closed, lashes and lid crease included, at canonical (x, y)."""
    shape = identity.eye
    u = side * (x - 256) - identity.bone.eye_x
    v = y - EYE_Y + shape.tilt * u
    high, low = shape.upper + shape.fold + 8, shape.lower + 10
    tall = np.where(v < 0, high, low)
    return np.asarray(np.abs(u / (shape.width + 12)) ** 2.2 + np.abs(v / tall) ** 2.2 < 1)

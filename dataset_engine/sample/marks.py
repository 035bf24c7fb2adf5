"""Marks that stay with a person: moles, a birthmark, scars, a tattoo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    Field,
    blur,
    curve,
    fill,
    glaze,
    grid,
    lines,
    noise,
    smoothstep,
)
from dataset_engine.sample.identity import Identity, spread

INK = np.array([0.030, 0.055, 0.075], np.float32)
PLACES = (
    (-84, 312),
    (84, 312),
    (-100, 208),
    (100, 208),
    (-52, 150),
    (52, 150),
    (0, 138),
    (-70, 398),
)


@dataclass(frozen=True)
class Marks:
    """Coverage [576, 576] in [0, 1] on the resting face, by kind; `bump` is scar relief."""

    moles: Field
    birthmark: Field
    scars: Field
    tattoo: Field
    bump: Field


def draw_marks(identity: Identity) -> Marks:
    """The identity's marks; kinds that this person lacks are all zero."""
    rng = identity.stream(21)
    x, y = grid()
    empty = np.zeros((CANVAS, CANVAS), np.float32)
    wobble = noise(rng, 7)
    kind = spread(identity.seed, identity.index, 9, 4)
    spots = rng.permutation(len(PLACES))
    moles = empty.copy()
    bump = empty.copy()
    for _ in range(int(rng.integers(2, 6))):
        cx, cy = _spot(rng)
        size = float(rng.uniform(2.4, 5.5))
        spot = smoothstep(size + 1.2, size - 1.0, _distance(x, y, cx, cy) + 0.4 * wobble)
        moles = np.maximum(moles, spot * np.float32(rng.uniform(0.75, 1)))
        bump += spot * np.float32(0.5)
    birthmark = _birthmark(rng, x, y, PLACES[spots[0]]) if kind in (1, 3) else empty
    scars = _scar(rng, PLACES[spots[1]]) if kind in (2, 3) else empty
    tattoo = _tattoo(rng, PLACES[spots[2]]) if kind in (0, 2, 3) else empty
    return Marks(moles, birthmark, scars, tattoo, np.asarray(bump + 0.7 * scars, np.float32))


def _distance(x: Field, y: Field, cx: float, cy: float) -> Field:
    return np.asarray(np.sqrt((x - cx) ** 2 + (y - cy) ** 2), np.float32)


def _spot(rng: np.random.Generator) -> tuple[float, float]:
    """A place on bare skin: not on lids, lips, nostrils or brows."""
    while True:
        dx, y = rng.uniform(-112, 112), rng.uniform(125, 440)
        clear_of_eyes = not (190 < y < 272 and abs(dx) < 105)
        clear_of_mouth = not (318 < y < 402 and abs(dx) < 70)
        inside = abs(dx) < 112 - max(0, y - 330) * 0.5
        if clear_of_eyes and clear_of_mouth and inside:
            return 256 + float(dx), float(y)


def _birthmark(rng: np.random.Generator, x: Field, y: Field, place: tuple[int, int]) -> Field:
    cx, cy = 256 + place[0] + rng.uniform(-6, 6), place[1] + rng.uniform(-6, 6)
    stretch = rng.uniform(0.8, 1.4)
    shape = np.sqrt(((x - cx) * stretch) ** 2 + (y - cy) ** 2)
    edge = shape + 6 * noise(rng, 14, 2)
    size = rng.uniform(15, 26)
    return smoothstep(size + 2.5, size - 2.5, edge) * (0.85 + 0.15 * noise(rng, 8))


def _scar(rng: np.random.Generator, place: tuple[int, int]) -> Field:
    cx, cy, angle = 256 + place[0], place[1], rng.uniform(0.3, 2.6)
    along = np.linspace(-1, 1, 5) * rng.uniform(17, 28)
    bend = rng.normal(0, 3, 5)
    points = np.stack(
        [
            cx + along * np.cos(angle) - bend * np.sin(angle),
            cy + along * np.sin(angle) + bend * np.cos(angle),
        ],
        axis=1,
    )
    stitches = [
        np.array([p + 6 * n, p - 6 * n], np.float32)
        for p in points[1:4]
        for n in [np.array([-np.sin(angle), np.cos(angle)])]
    ]
    body = blur(lines([curve(points)], 4), 0.9)
    return np.asarray(np.clip(body + 0.55 * blur(lines(stitches, 1), 0.7), 0, 1), np.float32)


def _tattoo(rng: np.random.Generator, place: tuple[int, int]) -> Field:
    centre = np.array([256 + place[0], place[1]], np.float32) + rng.uniform(-4, 4, 2)
    size = float(rng.uniform(22, 30))
    angle = rng.uniform(-0.5, 0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def put(points: object) -> Field:
        return np.asarray(np.asarray(points, np.float64) * size @ turn.T + centre, np.float32)

    motif = int(rng.integers(0, 5))
    strokes: list[Field] = []
    solid: list[Field] = []
    if motif == 0:  # a star
        spikes = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        star = np.stack([radius * np.cos(spikes), radius * np.sin(spikes)], 1)
        solid.append(put(star))
    elif motif == 1:  # tribal hooks
        for k in range(3):
            base = np.array([[-1, 0.2], [-0.3, -0.75], [0.5, -0.5], [0.75, 0.1], [0.35, 0.3]])
            hook = base * (1 - 0.26 * k) + [0.1 * k, 0.42 * k - 0.25]
            strokes.append(put(curve(hook)))
    elif motif == 2:  # a spiral
        turnings = np.linspace(0.6, 5.2 * np.pi / 1.6, 60)
        radius = turnings / turnings[-1]
        strokes.append(put(np.stack([radius * np.cos(turnings), radius * np.sin(turnings)], 1)))
    elif motif == 3:  # runes
        for k in range(3):
            left = -0.85 + 0.62 * k
            letter = [[left, -0.6], [left, 0.6]]
            strokes.append(put(letter))
            cuts = rng.uniform(-0.5, 0.5, 2)
            strokes.append(put([[left, cuts[0]], [left + 0.42, cuts[1]], [left, cuts[1] + 0.1]]))
    else:  # a diamond of lines and dots
        rhomb = np.array([[0, -1], [0.7, 0], [0, 1], [-0.7, 0], [0, -1]])
        strokes += [put(rhomb), put(rhomb * 0.5)]
        ring = np.stack([np.cos(np.arange(8) * 0.785), np.sin(np.arange(8) * 0.785)], 1) * 0.1
        solid += [put(ring + offset) for offset in ([0, 0], [0.85, -0.7], [-0.85, -0.7])]
    ink = np.maximum(lines(strokes, 6), fill(solid)) if strokes else fill(solid)
    worn = 0.92 + 0.08 * noise(rng, 6)
    return np.asarray(np.clip(blur(ink, 0.8) * worn, 0, 1), np.float32)


def apply_marks(albedo: Field, marks: Marks, covered: bool) -> None:
    """Colour an albedo [576, 576, 3] in place; a covered tattoo is left out."""
    for coverage, tint in (
        (marks.birthmark, np.array([0.66, 0.36, 0.36], np.float32)),
        (marks.scars, np.array([1.22, 1.02, 1.0], np.float32)),
        (marks.moles, np.array([0.30, 0.22, 0.20], np.float32)),
    ):
        _tint(albedo, coverage, tint)
    if not covered:
        depth = np.float32(min(1.0, float(albedo.mean()) * 3))
        glaze(albedo, marks.tattoo * np.float32(0.86), INK * depth)


def _tint(albedo: Field, coverage: Field, tint: Field) -> None:
    rows, columns = np.nonzero(coverage.max(1))[0], np.nonzero(coverage.max(0))[0]
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        albedo[box] *= 1 + coverage[box][..., None] * (tint - 1)

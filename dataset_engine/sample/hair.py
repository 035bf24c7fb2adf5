"""Hair of strands: a front layer over the forehead and sides, a back layer behind head and neck."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from dataset_engine.sample.fields import (
    CANVAS,
    MARGIN,
    ONE,
    SHIFT,
    Field,
    blur,
    curve,
    fill,
    noise,
    smoothstep,
)
from dataset_engine.sample.identity import HairStyle, Identity
from dataset_engine.sample.shape import half_width
from dataset_engine.sample.strands import (
    crop_strands,
    fringe_strands,
    parted_strands,
    quadratic,
    swept_strands,
    tied_strands,
)

SHADES = 10


def front_hair(identity: Identity, loose: bool) -> Field:
    """Hair over forehead and sides [576, 576, 4], premultiplied linear colour and cover.

    `loose` lets some strands fall over the forehead.
    """
    rng = identity.stream(70 + int(loose))
    if identity.hair is HairStyle.BUZZ:
        return _buzz(identity, rng)
    return _front(identity, rng, _volume(identity), loose)


def back_hair(identity: Identity) -> Field:
    """Hair behind head and neck [576, 576, 4], premultiplied linear colour and cover."""
    return _back(identity, identity.stream(72), _volume(identity))


def _volume(identity: Identity) -> float:
    base = {HairStyle.BUZZ: 2, HairStyle.CURLY: 34, HairStyle.TIED: 9, HairStyle.CROP: 13}
    return float(base.get(identity.hair, 20))


def _opening(identity: Identity) -> Field:
    """The hair's inner edge [N, 2]: forehead, temples and then down along the cheeks."""
    bone = identity.bone
    top = bone.hairline
    peak = -5 if identity.masculine < 0.5 else 4
    width = [
        float(half_width(bone, np.array([y], np.float32))[0]) for y in (150, 200, 240, 300, 390)
    ]
    right = [(0, top + peak), (34, top - 3), (70, top + 6), (width[0] * 0.80, 140)]
    if identity.long_hair:
        right += [(width[1] * 0.89, 190), (width[2] * 0.93, 245), (width[3] * 0.95, 300)]
        right += [(width[4] * 1.02, 390), (width[4] * 1.12, 560)]
    else:
        burn = 268 if identity.masculine > 0.5 else 248
        right += [(width[1] * 0.885, 186), (width[1] * 0.915, 205), (width[2] * 0.94, 236)]
        right += [
            (width[2] * 0.955, burn),
            (width[2] * 1.2, burn + 6),
            (250, burn + 60),
            (300, 560),
        ]
    points = [(256 - a, b) for a, b in reversed(right[1:])] + [(256 + a, b) for a, b in right]
    return curve(points, samples=8)


def _shell(identity: Identity, volume: float) -> Field:
    """The hair's outer edge [N, 2] as a closed curve."""
    bone = identity.bone
    side = volume * 0.62
    right = [
        (0, bone.top_y - volume),
        (72, bone.top_y - volume + 8),
        (124, bone.top_y + 44 - volume * 0.6),
        (bone.temple + side, 142),
        (bone.cheek + side, 235),
    ]
    if identity.long_hair:
        right += [(bone.cheek + side + 6, 330), (bone.cheek + side + 10, 440), (170, 580)]
    else:
        right += [(bone.cheek + side * 0.7, 262), (bone.cheek * 0.9, 300)]
    points = [(256 + x, y) for x, y in right] + [(256 - x, y) for x, y in reversed(right[1:])]
    return curve(points, samples=8, closed=True)


def _front(identity: Identity, rng: np.random.Generator, volume: float, loose: bool) -> Field:
    opening = _opening(identity)
    face = fill(
        [np.concatenate([opening, [[256 + 320, 700], [256 - 320, 700]]]).astype(np.float32)]
    )
    shell = fill([_shell(identity, volume)])
    cap = np.asarray(shell * (1 - face), np.float32)
    if identity.hair is HairStyle.CURLY:
        return _curly(identity, rng, cap)
    styles: dict[HairStyle, Callable[[Identity, np.random.Generator, float], Field]] = {
        HairStyle.CROP: crop_strands,
        HairStyle.SIDE_PART: swept_strands,
        HairStyle.FRINGE: parted_strands,
        HairStyle.LONG: parted_strands,
        HairStyle.SWEPT: swept_strands,
        HairStyle.TIED: tied_strands,
    }
    strands = [styles[identity.hair](identity, rng, volume)]
    over = fringe_strands(identity, rng, loose)
    edge = blur(np.asarray(cap > 0.5, np.float32), 3.5)
    allowed = np.maximum(smoothstep(0.05, 0.45, edge), _edge_hairs(rng, opening, edge))
    layer = _paint(identity, rng, strands, cap, np.asarray(allowed, np.float32))
    if len(over):
        fine = _paint(identity, rng, [over], np.zeros_like(cap), np.ones_like(cap))
        layer = fine + layer * (1 - fine[..., 3:])
    return np.asarray(layer, np.float32)


def _edge_hairs(rng: np.random.Generator, opening: Field, edge: Field) -> Field:
    """Fine hairs that break the hairline, so that it is not a drawn edge."""
    image = np.zeros((CANVAS, CANVAS), np.uint8)
    pick = opening[rng.integers(8, len(opening) - 8, 420)]
    pick = pick[pick[:, 1] < 250]
    reach = rng.uniform(3, 11, len(pick))
    lean = rng.normal(0, 0.5, len(pick)) + (pick[:, 0] - 256) / 160
    start = pick - np.stack([np.sin(lean) * 6, np.full(len(pick), 6.0)], 1)
    end = pick + np.stack([np.sin(lean) * reach * 0.6, reach * 0.6], 1)
    hairs = np.round((np.stack([start, end], 1) + MARGIN) * ONE).astype(np.int32)
    cv2.polylines(image, list(hairs), False, 255, 1, cv2.LINE_AA, SHIFT)
    return np.asarray(image, np.float32) / np.float32(255) * (edge < 0.6) * np.float32(0.75)


def _paint(
    identity: Identity,
    rng: np.random.Generator,
    groups: list[Field],
    base: Field,
    allowed: Field,
) -> Field:
    """Strands in shades of the hair's colour over a filled base, [576, 576, 4] premultiplied."""
    shade = np.full((CANVAS, CANVAS), 88, np.uint8)
    cover = np.zeros((CANVAS, CANVAS), np.uint8)
    for strands in groups:
        fixed = np.round((strands + MARGIN) * ONE).astype(np.int32)
        order = rng.permutation(len(fixed))
        for bucket, chosen in enumerate(np.array_split(order, SHADES * 2)):
            level = 48 + (bucket * 7 % SHADES) * 15
            cv2.polylines(shade, list(fixed[chosen]), False, level, 1, cv2.LINE_AA, SHIFT)
        shining = fixed[rng.uniform(size=len(fixed)) < 0.4]
        count = fixed.shape[1]
        for part in range(9):
            begin = round((count - 3) * (0.12 + 0.05 * part))
            level = 185 - 9 * abs(part - 4)
            piece = shining[part::9, begin : begin + max(3, count // 5)]
            cv2.polylines(shade, list(piece), False, level, 1, cv2.LINE_AA, SHIFT)
        cv2.polylines(cover, list(fixed), False, 255, 1, cv2.LINE_AA, SHIFT)
    alpha = np.asarray(cover, np.float32) / np.float32(255)
    if base.any():
        alpha = np.maximum(base, alpha * allowed)
    else:
        alpha = np.maximum(alpha, smoothstep(0.25, 0.8, blur(alpha, 1.2)))
    light = np.asarray(shade, np.float32) / np.float32(115) * (1 + 0.10 * noise(rng, 40, 2))
    colour = identity.hair_colour * light[..., None]
    layer = [colour * alpha[..., None], alpha[..., None]]
    return np.asarray(np.concatenate(layer, axis=2), np.float32)


def _curly(identity: Identity, rng: np.random.Generator, cap: Field) -> Field:
    grown = blur(cap, 5) + 0.10 * noise(rng, 9, 2)
    base = smoothstep(0.42, 0.58, np.asarray(grown, np.float32)) * (blur(cap, 5) > 0.1)
    rows, columns = np.nonzero(base > 0.5)
    pick = rng.integers(0, len(rows), 2600)
    centre = np.stack([columns[pick], rows[pick]], 1) - MARGIN
    turn = rng.uniform(0, 2 * np.pi, (len(pick), 1)) + np.linspace(0, 4.6, 9)[None, :]
    size = rng.uniform(3.0, 7.0, (len(pick), 1)) * np.linspace(1, 0.55, 9)[None, :]
    coils = centre[:, None] + np.stack([size * np.cos(turn), size * np.sin(turn)], 2)
    return _paint(
        identity, rng, [np.asarray(coils, np.float32)], base, np.asarray(base > 0.02, np.float32)
    )


def _buzz(identity: Identity, rng: np.random.Generator) -> Field:
    opening = _opening(identity)
    face = fill([np.concatenate([opening, [[576, 700], [-64, 700]]]).astype(np.float32)])
    cap = blur(np.asarray(fill([_shell(identity, 2)]) * (1 - face), np.float32), 4.5)
    grain = np.clip(0.72 + 0.20 * noise(rng, 1.6), 0.25, 1)
    cover = smoothstep(0.18, 0.85, cap) * grain
    cover = np.asarray(np.clip(cover, 0, 0.93), np.float32)
    colour = identity.hair_colour * (0.75 + 0.2 * noise(rng, 2.2))[..., None]
    colour = np.maximum(colour, 0.004)
    return np.concatenate([colour * cover[..., None], cover[..., None]], axis=2).astype(np.float32)


def _back(identity: Identity, rng: np.random.Generator, volume: float) -> Field:
    if identity.hair is HairStyle.BUZZ:
        return np.zeros((CANVAS, CANVAS, 4), np.float32)
    if identity.hair is HairStyle.TIED:
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        at = np.array([256, identity.bone.top_y - 24])
        bun = at + np.stack([52 * np.cos(turn), 44 * np.sin(turn)], 1)
        rings = (
            at
            + np.linspace(0.2, 1, 60)[:, None, None]
            * np.stack([52 * np.cos(turn), 44 * np.sin(turn)], 1)
            + rng.normal(0, 2, (60, 1, 2))
        )
        base = np.maximum(fill([np.asarray(bun, np.float32)]), fill([_shell(identity, volume)]))
        return _paint(identity, rng, [np.asarray(rings, np.float32)], base, np.ones_like(base))
    base = blur(fill([_shell(identity, volume - 5)]), 1.5)
    if identity.hair is HairStyle.CURLY:
        return _curly(identity, rng, base)
    bone = identity.bone
    count = 700
    x = rng.uniform(-1, 1, count) * (bone.cheek + volume * 0.6)
    start = np.stack([256 + x * 0.8, np.full(count, bone.top_y + 40.0)], 1)
    low = rng.uniform(430, 600, count) if identity.long_hair else rng.uniform(180, 290, count)
    end = np.stack([256 + x * 1.05 + rng.normal(0, 6, count), low], 1)
    middle = np.stack([256 + x * 1.18, 0.5 * (start[:, 1] + low)], 1)
    layer = _paint(identity, rng, [quadratic(start, middle, end, 10)], base, base)
    layer[..., :3] *= np.float32(0.55)
    return layer

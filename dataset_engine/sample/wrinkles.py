"""Wrinkles that an expression makes: smile folds, crow's feet, forehead and frown lines."""

from __future__ import annotations

import numpy as np

from dataset_engine.sample.fields import CANVAS, Field, Mask, blur, close, curve, grow, lines
from dataset_engine.sample.identity import Identity

SEEN = 0.06  # depth under which a furrow cannot be told from skin


def strokes(identity: Identity, group: str) -> list[Field]:
    """Polylines [N, 2] of one group on the resting face."""
    bone, rng = identity.bone, identity.stream(31)
    jitter = rng.normal(0, 1.3, 64)
    found: list[Field] = []
    if group == "forehead":
        for k in range(4):
            px = np.linspace(256 - 78 + 6 * k, 256 + 78 - 6 * k, 7)
            bow = 7 * np.abs(np.linspace(-1, 1, 7)) ** 2 - 4
            found.append(_line(px, 132 + 15 * k + bow + 1.2 * jitter[7 * k : 7 * k + 7]))
        return found
    for side in (-1, 1):
        if group == "nasolabial":
            corner = bone.mouth_width + 17
            start = bone.nose_width + 11
            px = np.array([start, start + 12, (start + corner) / 2 + 12, corner + 2, corner + 3])
            py = np.array([bone.nose_y - 4, bone.nose_y + 10, bone.nose_y + 26])
            py = np.append(py, [bone.mouth_y - 12, bone.mouth_y + 12])
            found.append(_line(256 + side * px, py))
        elif group == "crow's feet":
            outer = bone.eye_x + identity.eye.width + 5
            for k, angle in enumerate(np.radians([-34, -12, 10, 32])):
                reach = np.array([0, 8, 17, 26]) + abs(jitter[k])
                px = outer + reach * np.cos(angle)
                py = 241 + 5 * (k - 1.5) + reach * np.sin(angle) + np.array([0, -0.8, -0.6, 0.8])
                found.append(_line(256 + side * px, py))
        elif group == "glabella":
            for k in range(2):
                px = 8 + 7 * k + np.array([0, 1.0, 2.0, 4.5 + 2 * k])
                py = np.array([232, 218, 204, 190.0]) + 5 * k + 0.4 * jitter[:4]
                found.append(_line(256 + side * px, py))
    return found


def _line(x: Field, y: Field) -> Field:
    return curve(np.stack([x, y], axis=1))


def furrows(identity: Identity, groups: tuple[tuple[str, float], ...]) -> Field:
    """Depth of the wrinkles [576, 576] in [0, 1] on the resting face."""
    total = np.zeros((CANVAS, CANVAS), np.float32)
    for group, strength in groups:
        wide = {"nasolabial": 2.6, "glabella": 1.9, "forehead": 1.7}.get(group, 1.3)
        line = blur(lines(strokes(identity, group), 2), wide)
        total = np.maximum(total, line * np.float32(strength / max(line.max(), 1e-6)))
    return total


def wrinkle_area(identity: Identity, group: str) -> Mask:
    """What a person would paint over one group [576, 576], on the resting face."""
    gap = {"forehead": 9, "crow's feet": 9, "glabella": 9}.get(group, 2)
    support = furrows(identity, ((group, 1.0),)) > SEEN
    return close(grow(support, 4), gap)

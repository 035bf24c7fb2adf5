"""Light on the relief: soft terminator, occlusion, nose shadow and skin gloss."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dataset_engine.sample.fields import Field, blur, gauss, grid, pair, smoothstep, soft_blur
from dataset_engine.sample.identity import Identity
from dataset_engine.sample.shape import STEP
from dataset_engine.sample.shot import Light

WRAP = np.array([0.42, 0.24, 0.17], np.float32)  # red light travels furthest under skin


@dataclass(frozen=True)
class Lit:
    """On the moved face [288, 288]: diffuse light [.., 3], gloss, and the bump's two slopes."""

    diffuse: Field
    gloss: Field


def light_face(identity: Identity, z: Field, turn: Field, light: Light) -> Lit:
    """Light a relief; `turn` takes head axes to camera axes."""
    source = (turn.T @ light.direction).astype(np.float32)
    viewer = turn.T[:, 2].astype(np.float32)
    smooth = blur(z, 1.2)
    nx = -cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3) / np.float32(8 * STEP)
    ny = -cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3) / np.float32(8 * STEP)
    length = 1 / np.sqrt(nx * nx + ny * ny + 1)
    facing = (nx * source[0] + ny * source[1] + source[2]) * length
    shadow = _cast_shadow(z, source, light.hardness)
    occlusion = _occlusion(z)
    wrapped = np.clip((facing[..., None] + WRAP) / (1 + WRAP), 0, 1) ** np.float32(1.15)
    soften = 1 - (1 - shadow)[..., None] * np.array([0.72, 0.86, 0.92], np.float32)
    sky = 0.72 + 0.28 * np.clip(-(ny * length) * 0.9 + 0.35, -1, 1)
    rim = np.clip((nx * viewer[0] + ny * viewer[1] + viewer[2]) * length, 0, 1)
    key = np.float32(1.18 - 0.62 * light.ambient.mean())
    diffuse = key * light.colour * wrapped * soften
    bounce = light.ambient * (sky * occlusion * (0.55 + 0.45 * rim))[..., None]
    diffuse = diffuse * (0.45 + 0.55 * occlusion)[..., None] + bounce
    half = source + viewer
    half /= np.linalg.norm(half)
    spread = np.clip((nx * half[0] + ny * half[1] + half[2]) * length, 0, 1)
    x, y = grid(STEP)
    bone = identity.bone
    oil = 0.5 + 0.7 * gauss(x, y, 256, 150, 70, 40) + 1.0 * gauss(x, y, 256, 285, 16, 48)
    oil = (
        oil + 0.45 * pair(x, y, 74, 285, 28, 20) + 0.3 * gauss(x, y, 256, bone.chin_y - 28, 20, 14)
    )
    gloss = (0.050 * spread**14 + 0.085 * spread**48) * oil * shadow * key * occlusion
    return Lit(np.asarray(diffuse, np.float32), np.asarray(gloss, np.float32))


def _cast_shadow(z: Field, source: Field, hardness: float) -> Field:
    """1 in light, towards 0 where the relief stands before the light."""
    small = cv2.resize(z, (144, 144), interpolation=cv2.INTER_AREA)
    step = 4.0  # px of the canvas per small pixel
    blocked = np.zeros_like(small)
    flat = np.hypot(source[0], source[1])
    if flat < 1e-3:
        return np.ones_like(z)
    for k in range(1, 11):
        reach = 1.35 * k
        dx, dy = source[0] / flat * reach, source[1] / flat * reach
        move = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
        moved = cv2.warpAffine(small, move, (144, 144), borderMode=cv2.BORDER_REPLICATE)
        rise = reach * step * source[2] / flat
        blocked = np.maximum(blocked, smoothstep(0, 9, np.asarray(moved - small - rise)))
    soft = blur(np.asarray(blocked, np.float32), 1.9 - 0.9 * hardness)
    return np.asarray(1 - 0.9 * cv2.resize(soft, z.shape[::-1], interpolation=cv2.INTER_LINEAR))


def _occlusion(z: Field) -> Field:
    wide = np.maximum(soft_blur(z, 11) - z, 0)
    near = np.maximum(blur(z, 3.2) - z, 0)
    return np.asarray(np.exp(-0.055 * wide - 0.20 * near), np.float32)

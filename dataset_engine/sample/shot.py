"""What a photograph is: pose, light, expression and what is worn, drawn anew for each shot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dataset_engine.sample.fields import Field
from dataset_engine.sample.identity import BeardStyle, Identity


class Mouth(IntEnum):
    """How far the lips are apart; two shots conflict when these differ."""

    CLOSED = 0
    TEETH = 1
    OPEN = 2


@dataclass(frozen=True)
class Pose:
    """Degrees; yaw > 0 turns the face to image right, pitch > 0 raises it."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Light:
    """Direction towards the light in camera axes (x right, y down, z to the viewer), colours."""

    direction: Field
    colour: Field
    ambient: Field
    exposure: float
    hardness: float


@dataclass(frozen=True)
class Expression:
    """`smile` < 0 turns the corners down; `wrinkles` holds the strength of each visible group."""

    mouth: Mouth
    gap: float
    closed_eyes: bool
    openness: float
    smile: float
    brow_lift: float
    frown: float
    gaze: tuple[float, float]
    wrinkles: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class MakeUp:
    """Strengths in [0, 1]; 0 is bare. Colours belong to the identity."""

    lips: float = 0.0
    lids: float = 0.0
    cheeks: float = 0.0


@dataclass(frozen=True)
class Shot:
    """One photograph of an identity."""

    seed: int
    identity: int
    index: int
    pose: Pose
    light: Light
    expression: Expression
    glasses: bool
    make_up: MakeUp
    beard: BeardStyle
    spots: bool
    paint: bool
    covered: bool
    loose_hair: bool

    def stream(self, purpose: int) -> np.random.Generator:
        """The random stream of one part of this shot."""
        key = [self.seed, self.identity, self.index, 11, purpose]
        return np.random.default_rng(np.random.SeedSequence(key))


def draw_shot(identity: Identity, index: int) -> Shot:
    """Shot number `index` of this identity; the same arguments give the same shot."""
    key = [identity.seed, identity.index, index, 2]
    face, scene = (np.random.default_rng(s) for s in np.random.SeedSequence(key).spawn(2))
    habits = identity.habits
    expression = _expression(face)
    chance = face.uniform(size=8)
    beard = BeardStyle.NONE
    if habits.beards[0] is not BeardStyle.NONE:
        beard = (BeardStyle.NONE, *habits.beards)[int(np.searchsorted([0.5, 0.82], chance[0]))]
    return Shot(
        seed=identity.seed,
        identity=identity.index,
        index=index,
        pose=Pose(
            yaw=float(np.clip(scene.normal(0, 11), -23, 23)),
            pitch=float(np.clip(scene.normal(0, 5), -10, 10)),
            roll=float(np.clip(scene.normal(0, 4), -9, 9)),
        ),
        light=_light(scene),
        expression=expression,
        glasses=habits.glasses and bool(chance[1] < 0.20),
        make_up=_make_up(face) if habits.make_up and chance[2] < 0.17 else MakeUp(),
        beard=beard,
        spots=habits.spots != "" and bool(chance[3] < 0.12),
        paint=habits.paint and bool(chance[4] < 0.11),
        covered=bool(chance[5] < 0.035),
        loose_hair=bool(chance[6] < 0.5),
    )


def _expression(rng: np.random.Generator) -> Expression:
    u = rng.uniform
    mood = int(np.searchsorted([0.77, 0.89, 0.95], u()))  # calm, smile, surprise, frown
    smile = float((u(-0.05, 0.4), u(0.75, 1.0), u(-0.1, 0.2), u(-0.8, -0.5))[mood])
    shares = ([0.83, 0.94], [0.45, 0.88], [0.5, 0.6], [0.9, 0.95])[mood]
    mouth = Mouth(int(np.searchsorted(shares, u())))
    groups: tuple[tuple[str, ...], ...] = (
        (), ("nasolabial", "crow's feet"), ("forehead",), ("glabella", "nasolabial"),
    )  # fmt: skip
    strength = float(u(0.8, 1.0))
    closed = bool(u() < 0.22)
    return Expression(
        mouth=mouth,
        gap=float((0, u(0.24, 0.34), u(0.75, 1.0))[mouth]),
        closed_eyes=closed,
        openness=0.0 if closed else float(u(0.86, 1.02) + (0.12 if mood == 2 else 0)),
        smile=smile,
        brow_lift=float(u(0.7, 1.0)) if mood == 2 else float(u(-0.1, 0.1)),
        frown=float(u(0.7, 1.0)) if mood == 3 else 0.0,
        gaze=(float(u(-1.5, 1.5)), float(u(-0.8, 0.8))),
        wrinkles=tuple((group, strength) for group in groups[mood]),
    )


def _light(rng: np.random.Generator) -> Light:
    side, height = rng.uniform(-55, 55), rng.uniform(8, 48)
    az, el = np.radians(side), np.radians(height)
    direction = [np.sin(az) * np.cos(el), -np.sin(el), np.cos(az) * np.cos(el)]
    warmth = rng.normal(0, 0.06)
    colour = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
    cool = rng.normal(0, 0.05)
    ambient = np.array([1 - cool, 1.0, 1 + cool], np.float32) * rng.uniform(0.26, 0.5)
    return Light(
        direction=np.asarray(direction, np.float32),
        colour=colour,
        ambient=np.asarray(ambient, np.float32),
        exposure=float(np.exp(rng.normal(0, 0.13))),
        hardness=float(rng.uniform(0.2, 0.8)),
    )


def _make_up(rng: np.random.Generator) -> MakeUp:
    used = rng.permutation([True, True, bool(rng.uniform() < 0.6)])
    strength = rng.uniform(0.75, 1.0, 3) * used
    return MakeUp(lips=float(strength[0]), lids=float(strength[1]), cheeks=float(strength[2]))

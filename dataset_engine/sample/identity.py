"""Who a person is: bones, colours, hair and marks that are the same in all of their shots."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dataset_engine.sample.fields import Field, linear

SKIN_TONES = (
    (250, 219, 198), (240, 200, 172), (226, 178, 146), (208, 154, 118),
    (178, 122, 86), (146, 96, 66), (112, 72, 50), (84, 53, 39),
)  # fmt: skip
IRIS_COLOURS = (
    (92, 58, 34),
    (62, 40, 26),
    (120, 88, 46),
    (86, 104, 70),
    (92, 124, 148),
    (110, 118, 120),
)
HAIR_COLOURS = (
    (26, 21, 20), (44, 31, 25), (74, 50, 34), (104, 70, 42),
    (150, 106, 62), (196, 156, 98), (132, 58, 30),
)  # fmt: skip


class HairStyle(IntEnum):
    """The cuts; an identity has one."""

    BUZZ = 0
    CROP = 1
    SIDE_PART = 2
    FRINGE = 3
    LONG = 4
    SWEPT = 5
    CURLY = 6
    TIED = 7


class BeardStyle(IntEnum):
    """What is left to grow; NONE is a clean shave."""

    NONE = 0
    STUBBLE = 1
    MOUSTACHE = 2
    GOATEE = 3
    FULL = 4


@dataclass(frozen=True)
class Bone:
    """Shape in px of the canonical canvas (x from the middle line at 256)."""

    temple: float
    cheek: float
    jaw: float
    chin: float
    top_y: float
    chin_y: float
    eye_x: float
    brow_y: float
    nose_y: float
    nose_width: float
    nose_height: float
    nose_bridge: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cheekbone: float
    brow_ridge: float
    hairline: float


@dataclass(frozen=True)
class EyeShape:
    """Half sizes in px; `tilt` lifts the outer corner; `fold` is the lid crease's distance."""

    width: float
    upper: float
    lower: float
    tilt: float
    fold: float
    iris: Field
    lashes: float


@dataclass(frozen=True)
class Brow:
    """`thickness` in px, `arch` the rise of the peak in px, `density` in [0, 1]."""

    thickness: float
    arch: float
    density: float


@dataclass(frozen=True)
class Habits:
    """What may differ from shot to shot; probabilities per shot live in `shot`."""

    beards: tuple[BeardStyle, BeardStyle]
    glasses: bool
    make_up: bool
    spots: str
    paint: bool


@dataclass(frozen=True)
class Identity:
    """One person. Colours are linear light [3]; `age` and `masculine` are in [0, 1]."""

    seed: int
    index: int
    masculine: float
    age: float
    skin: Field
    melanin: float
    bone: Bone
    eye: EyeShape
    brow: Brow
    hair: HairStyle
    hair_colour: Field
    lip: Field
    habits: Habits

    @property
    def long_hair(self) -> bool:
        """Whether the hair falls past the jaw."""
        falls = self.hair in (HairStyle.SWEPT, HairStyle.FRINGE) and self.masculine < 0.5
        return self.hair is HairStyle.LONG or falls

    def stream(self, purpose: int) -> np.random.Generator:
        """The random stream of one part of this identity; parts never disturb one another."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.index, 7, purpose]))


def spread(seed: int, index: int, purpose: int, period: int) -> int:
    """A value in range(period) that visits each of them once in every `period` identities."""
    block = np.random.SeedSequence([seed, index // period, 3, purpose])
    return int(np.random.default_rng(block).permutation(period)[index % period])


def draw_identity(seed: int, index: int) -> Identity:
    """The identity with this number; the same arguments give the same person."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, 1]))
    man = spread(seed, index, 0, 2) == 0
    masculine = float(np.clip(rng.normal(0.85 if man else 0.15, 0.1), 0, 1))
    age = float(rng.uniform(0, 1) ** 1.2)
    tone = float((spread(seed, index, 1, 8) + rng.uniform(0, 1)) / 8 * (len(SKIN_TONES) - 1))
    skin = _between(SKIN_TONES, tone) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    melanin = tone / (len(SKIN_TONES) - 1)
    hair_colour, grey = _hair_colour(rng, melanin, age)
    eye = EyeShape(
        width=float(rng.uniform(27, 31) + 1.5 * (1 - masculine)),
        upper=float(rng.uniform(8.8, 11.8) + 1.3 * (1 - masculine)),
        lower=float(rng.uniform(6.5, 9.0)),
        tilt=float(rng.uniform(-0.03, 0.12)),
        fold=float(rng.uniform(4.0, 9.0)),
        iris=linear(IRIS_COLOURS[_iris(rng, melanin)]) * np.float32(rng.uniform(0.8, 1.25)),
        lashes=float(1 - 0.6 * masculine + rng.uniform(-0.1, 0.1)),
    )
    brow = Brow(
        thickness=float(3.4 + 5.2 * masculine + rng.uniform(-0.7, 1.5)),
        arch=float(rng.uniform(6, 13) - 5 * masculine),
        density=float(rng.uniform(0.72, 1.0) - 0.15 * grey),
    )
    lip_tint = np.array([0.88, 0.52, 0.50], np.float32) * (1 - melanin) + melanin * np.array(
        [0.78, 0.55, 0.58], np.float32
    )
    return Identity(
        seed=seed,
        index=index,
        masculine=masculine,
        age=age,
        skin=np.asarray(skin, np.float32),
        melanin=melanin,
        bone=_bone(rng, masculine, age),
        eye=eye,
        brow=brow,
        hair=_hair_style(rng, man, melanin, spread(seed, index, 2, 6)),
        hair_colour=hair_colour,
        lip=np.asarray(skin * lip_tint * rng.uniform(0.92, 1.08), np.float32),
        habits=_habits(rng, seed, index, man),
    )


def _between(palette: tuple[tuple[int, int, int], ...], position: float) -> Field:
    low = min(int(position), len(palette) - 2)
    part = np.float32(position - low)
    return np.asarray(linear(palette[low]) * (1 - part) + linear(palette[low + 1]) * part)


def _bone(rng: np.random.Generator, masculine: float, age: float) -> Bone:
    u = rng.uniform
    cheek = float(u(133, 151) + 3 * masculine)
    return Bone(
        temple=float(cheek + u(-6, 3)),
        cheek=cheek,
        jaw=float(u(94, 110) + 14 * masculine),
        chin=float(u(36, 48) + 13 * masculine),
        top_y=float(u(0, 16)),
        chin_y=float(u(452, 474) + 7 * masculine),
        eye_x=float(u(60, 66)),
        brow_y=float(u(202, 210) + 5 * masculine),
        nose_y=float(u(308, 320)),
        nose_width=float(u(18, 26) + 2 * masculine),
        nose_height=float(u(23, 32)),
        nose_bridge=float(u(9, 12.5)),
        mouth_y=float(u(364, 374)),
        mouth_width=float(u(48, 57)),
        upper_lip=float(u(11, 16) - 4 * masculine - 2 * age),
        lower_lip=float(u(15, 21) - 3 * masculine - 2 * age),
        cheekbone=float(u(4, 11)),
        brow_ridge=float(u(1, 4) + 5 * masculine),
        hairline=float(u(88, 112) - 12 * age * masculine),
    )


def _iris(rng: np.random.Generator, melanin: float) -> int:
    if melanin > 0.55 or rng.uniform() < 0.3:
        return int(rng.integers(0, 2))
    return int(rng.integers(0, len(IRIS_COLOURS)))


def _hair_colour(rng: np.random.Generator, melanin: float, age: float) -> tuple[Field, float]:
    last = 2 if melanin > 0.5 else len(HAIR_COLOURS)
    colour = linear(HAIR_COLOURS[int(rng.integers(0, last))])
    grey = float(np.clip((age - 0.66) * 3 * rng.uniform(0.2, 1.2), 0, 0.9))
    colour = colour * (1 - grey) + grey * linear((168, 166, 164))
    return np.asarray(colour, np.float32), grey


def _hair_style(rng: np.random.Generator, man: bool, melanin: float, turn: int) -> HairStyle:
    if melanin > 0.65 and rng.uniform() < 0.45:
        return HairStyle.CURLY
    short = (HairStyle.CROP, HairStyle.SIDE_PART, HairStyle.BUZZ, HairStyle.FRINGE, HairStyle.SWEPT)
    long = (HairStyle.LONG, HairStyle.FRINGE, HairStyle.SWEPT, HairStyle.TIED, HairStyle.LONG)
    styles = short if man else long
    return HairStyle.CURLY if turn == 5 else styles[turn]


def _habits(rng: np.random.Generator, seed: int, index: int, man: bool) -> Habits:
    grown = [BeardStyle.STUBBLE, BeardStyle.MOUSTACHE, BeardStyle.GOATEE, BeardStyle.FULL]
    first, second = rng.choice(4, 2, replace=False, p=[0.2, 0.28, 0.28, 0.24])
    beards = (grown[first], grown[second]) if man else (BeardStyle.NONE, BeardStyle.NONE)
    return Habits(
        beards=beards,
        glasses=spread(seed, index, 3, 5) < 2,
        make_up=not man and spread(seed, index, 4, 4) < 3,
        spots=("freckles", "age spots", "blemishes", "", "", "")[spread(seed, index, 5, 6)],
        paint=spread(seed, index, 6, 5) < 2,
    )

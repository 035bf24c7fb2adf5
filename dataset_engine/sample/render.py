"""A shot of an identity as an aligned photograph, with the face region that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.sample.beard import beard_layer
from dataset_engine.sample.eyes import FINE, Patch, eye_patch
from dataset_engine.sample.fields import (
    MARGIN,
    SIZE,
    Field,
    Mask,
    blur,
    disk,
    glaze,
    resize,
    rgb,
    sample,
    soft_blur,
    split,
    tinted,
)
from dataset_engine.sample.geometry import Geometry, geometry
from dataset_engine.sample.glasses import Glasses, draw_glasses, wear
from dataset_engine.sample.hair import back_hair, front_hair
from dataset_engine.sample.identity import BeardStyle, Identity, draw_identity
from dataset_engine.sample.lighting import light_face
from dataset_engine.sample.marks import Marks, apply_marks, draw_marks
from dataset_engine.sample.mouth import mouth_patch
from dataset_engine.sample.scene import (
    EAR_DEPTH,
    HAIR_DEPTH,
    NECK_DEPTH,
    background,
    body,
    ears,
    lay,
)
from dataset_engine.sample.shape import face_cover, relief
from dataset_engine.sample.shot import Shot, draw_shot
from dataset_engine.sample.skin import Skin, draw_skin
from dataset_engine.sample.surface import (
    cheek_cover,
    lid_cover,
    make_up_colours,
    paint_layers,
    spot_cover,
    spot_tint,
)
from dataset_engine.sample.wrinkles import furrows

LEVELS = 8192  # steps of linear light that are told apart before the display curve


class Person:
    """An identity and the layers that its shots share, each painted when first asked for."""

    def __init__(self, seed: int, index: int) -> None:
        self.identity: Identity = draw_identity(seed, index)
        self._hair: dict[bool, Field] = {}
        self._beards: dict[BeardStyle, tuple[Field, Field]] = {}

    @cached_property
    def relief(self) -> Field:
        """Depth of the resting face [288, 288]."""
        return relief(self.identity)

    @cached_property
    def cover(self) -> Field:
        """Where the resting face is [576, 576]."""
        return face_cover(self.identity)

    @cached_property
    def skin(self) -> Skin:
        """Bare skin and brows."""
        return draw_skin(self.identity)

    @cached_property
    def marks(self) -> Marks:
        """Lasting marks."""
        return draw_marks(self.identity)

    @cached_property
    def back_hair(self) -> Field:
        """Hair behind the head [576, 576, 4]."""
        return back_hair(self.identity)

    @cached_property
    def spots(self) -> Field:
        """Spots that some shots show [576, 576]."""
        return spot_cover(self.identity)

    @cached_property
    def paints(self) -> list[tuple[Field, Field]]:
        """Face paint that some shots wear: covers [576, 576] and colours [3]."""
        return paint_layers(self.identity)

    def beard(self, style: BeardStyle) -> tuple[Field, Field]:
        """Cover and shade [576, 576] of a beard."""
        if style not in self._beards:
            self._beards[style] = beard_layer(self.identity, style)
        return self._beards[style]

    def front_hair(self, loose: bool) -> Field:
        """Hair over the forehead and sides [576, 576, 4]."""
        if loose not in self._hair:
            self._hair[loose] = front_hair(self.identity, loose)
        return self._hair[loose]

    def shot(self, index: int) -> Shot:
        """The shot of this identity with this number."""
        return draw_shot(self.identity, index)

    def view(self, shot: Shot) -> Geometry:
        """The shot's geometry."""
        return geometry(self.identity, shot, self.relief)


@dataclass(frozen=True)
class Photograph:
    """A rendered shot: uint8 RGB [512, 512, 3], face region [512, 512] and its geometry."""

    image: NDArray[np.uint8]
    region: Mask
    geometry: Geometry


def face_region(person: Person, shot: Shot, view: Geometry, glasses: Glasses | None) -> Mask:
    """Skin, facial parts, beard and glasses [512, 512]; hair, ears, neck and background out.

    A brush does not follow single hairs: thin strands are passed over, slivers between them left.
    """
    skin = view.from_rest(person.cover)
    hair = view.from_face(np.ascontiguousarray(person.front_hair(shot.loose_hair)[..., 3]))
    if glasses is not None:
        skin = np.maximum(skin, glasses.frame)
    region = np.asarray((skin > 0.5) & (blur(hair, 2.2) < 0.5), np.uint8)
    region = cv2.morphologyEx(region, cv2.MORPH_OPEN, disk(3))
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(region, connectivity=4)
    return np.asarray(parts == 1 + np.argmax(sizes[1:, cv2.CC_STAT_AREA]))


def shoot(person: Person, shot: Shot) -> Photograph:
    """Render a shot."""
    identity, light = person.identity, shot.light
    view = person.view(shot)
    glasses = draw_glasses(identity, view, light.direction) if shot.glasses else None
    hair, hair_cover = split(view.from_face(person.front_hair(shot.loose_hair)))
    face = _face(person, shot, view, glasses, hair_cover)
    image = background(shot)
    image = lay(image, _shaded(person.back_hair, 0.75, light.colour), view, HAIR_DEPTH)
    image = lay(image, body(identity, shot), view, NECK_DEPTH)
    image = lay(image, ears(identity, shot), view, EAR_DEPTH)
    cover = rgb(view.from_rest(person.cover))
    image = image + (np.clip(face.colour, 0, None) - image) * cover
    if glasses is not None:
        image = wear(image, glasses, light.direction)
    image = image * rgb(1 - hair_cover) + _hair_light(hair, face.light, light.colour)
    return Photograph(_expose(image, shot), face_region(person, shot, view, glasses), view)


@dataclass(frozen=True)
class _Face:
    """The lit face [512, 512, 3] and the light that falls on it [512, 512, 3]."""

    colour: Field
    light: Field


def _face(
    person: Person, shot: Shot, view: Geometry, glasses: Glasses | None, hair_cover: Field
) -> _Face:
    identity, light = person.identity, shot.light
    lit = light_face(identity, view.z, view.turn, light)
    diffuse, gloss = view.from_coarse(lit.diffuse), view.from_coarse(lit.gloss)
    albedo, slope = _albedo(person, shot)
    colour, fine = view.from_rest(albedo, cubic=True), view.from_rest(slope, cubic=True)
    shine = np.zeros((SIZE, SIZE), np.float32)
    bare = np.ones((SIZE, SIZE), np.float32)
    patches = [eye_patch(identity, shot.expression, light, side) for side in (-1, 1)]
    for patch in (*patches, mouth_patch(identity, shot)):
        _stick(colour, shine, bare, patch, view)
    if shot.beard is not BeardStyle.NONE:
        gloss = gloss * (1 - view.from_rest(person.beard(shot.beard)[0]))
    shade = 1 + bare * fine
    fallen = soft_blur(np.ascontiguousarray(np.roll(hair_cover, 7, axis=0)), 6.5)
    shade *= 1 - 0.42 * fallen * (1 - hair_cover)
    if glasses is not None:
        shade *= 1 - 0.40 * glasses.shadow * (1 - glasses.frame)
    diffuse = diffuse * rgb(shade)
    gloss = gloss * bare * np.clip(1 + 2.2 * fine, 0.2, 2.5) + shine * diffuse[..., 1]
    return _Face(colour * diffuse + tinted(gloss, light.colour), diffuse)


def _albedo(person: Person, shot: Shot) -> tuple[Field, Field]:
    """Skin colour [576, 576, 3] and light that its fine relief adds [576, 576], at rest."""
    identity = person.identity
    albedo, bump = person.skin.albedo.copy(), person.skin.bump + person.marks.bump
    apply_marks(albedo, person.marks, shot.covered)
    if shot.spots:
        albedo *= 1 + tinted(person.spots, spot_tint(identity) - 1)
    make_up = shot.make_up
    _, lid, blush = make_up_colours(identity)
    if make_up.lids:
        glaze(albedo, lid_cover(identity) * np.float32(0.78 * make_up.lids), lid)
    if make_up.cheeks:
        glaze(albedo, cheek_cover() * np.float32(0.50 * make_up.cheeks), blush)
    if shot.paint:
        for cover, paint in person.paints:
            glaze(albedo, cover * np.float32(0.9), paint)
    if shot.expression.wrinkles:
        depth = furrows(identity, shot.expression.wrinkles)
        albedo *= 1 - tinted(depth, np.array([0.40, 0.52, 0.54], np.float32))
        bump = bump - 2.6 * depth
    if shot.beard is not BeardStyle.NONE:
        cover, tone = person.beard(shot.beard)
        albedo = albedo * rgb(1 - cover) + tinted(cover * tone, identity.hair_colour)
        bump = bump * (1 - 0.5 * cover)
    source = shot.light.direction
    bump = np.asarray(bump, np.float32)
    across = cv2.Sobel(bump, cv2.CV_32F, 1, 0, ksize=1) * np.float32(0.5 * source[0])
    across += cv2.Sobel(bump, cv2.CV_32F, 0, 1, ksize=1) * np.float32(0.5 * source[1])
    return np.asarray(albedo, np.float32), np.asarray(-0.55 * across, np.float32)


def _stick(colour: Field, shine: Field, bare: Field, patch: Patch, view: Geometry) -> None:
    """Lay a fine patch of the moved face into image layers, in place."""
    x = (view.face_x - np.float32(MARGIN + patch.x - 0.5)) * FINE - np.float32(0.5)
    y = (view.face_y - np.float32(MARGIN + patch.y - 0.5)) * FINE - np.float32(0.5)
    height, width = patch.gloss.shape
    hit = (x > -1) & (x < width) & (y > -1) & (y < height)
    rows, columns = np.nonzero(hit.any(1))[0], np.nonzero(hit.any(0))[0]
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    px, py = np.ascontiguousarray(x[box]), np.ascontiguousarray(y[box])
    paint, cover = split(sample(patch.colour, px, py))
    colour[box] = colour[box] * rgb(1 - cover) + paint
    bare[box] = np.minimum(bare[box], 1 - cover)
    shine[box] += sample(patch.gloss, px, py)


def _shaded(layer: Field, strength: float, tint: Field) -> Field:
    keep = np.array([*(strength * tint), 1], np.float32)
    return np.asarray(cv2.transform(layer, np.diag(keep)), np.float32)


def _hair_light(hair: Field, light: Field, tint: Field) -> Field:
    """Light premultiplied hair [512, 512, 3] softly, with a band of shine."""
    smooth = resize(blur(resize(light, (64, 64)), 4.0), (SIZE, SIZE))
    band = np.exp(-0.5 * ((np.linspace(0, 1, SIZE, dtype=np.float32) - 0.13) / 0.05) ** 2)[:, None]
    level = smooth * np.float32(0.85) + np.float32(0.30)
    shine = 0.35 * band * smooth[..., 1] * hair[..., 1]
    return hair * level + tinted(np.asarray(shine, np.float32), tint)


def _expose(image: Field, shot: Shot) -> NDArray[np.uint8]:
    """Exposure, a soft shoulder, slight lens blur, sensor noise and the display curve."""
    bright = blur(image * np.float32(1.02 * shot.light.exposure), 0.5)
    level = np.linspace(0, 1.5, LEVELS, dtype=np.float32)
    level = np.where(level > 0.75, 0.75 + 0.25 * np.tanh((level - 0.75) / 0.3), level)
    shown = (level ** np.float32(1 / 2.2) * 255).astype(np.float32)
    index = (np.clip(bright, 0, 1.5) * np.float32((LEVELS - 1) / 1.5)).astype(np.int32)
    rng = shot.stream(3)
    strength = np.float32(rng.uniform(0.8, 2.2))
    grain = rng.standard_normal((SIZE, SIZE), np.float32) * strength + np.float32(0.5)
    return np.asarray(np.clip(shown[index] + rgb(grain), 0, 255).astype(np.uint8))

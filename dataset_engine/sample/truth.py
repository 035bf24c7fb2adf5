"""What of a reference agrees with a ground truth: the exact mask, from how both were rendered.

A conflict is a part of the reference that the two shots show differently, whichever of them has
it: the beard of the ground truth on the reference's bare chin is as much a conflict as the other
way round. Light, pose, exposure, background and hair are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dataset_engine.sample.beard import beard_area
from dataset_engine.sample.eyes import eye_area
from dataset_engine.sample.fields import CANVAS, MARGIN, Field, Mask, close, disk, grow
from dataset_engine.sample.geometry import Geometry
from dataset_engine.sample.glasses import draw_glasses, glasses_area
from dataset_engine.sample.identity import BeardStyle, Identity
from dataset_engine.sample.mouth import mouth_area
from dataset_engine.sample.render import Person, Photograph, face_region
from dataset_engine.sample.shot import Shot
from dataset_engine.sample.surface import cheek_area, lid_area, paint_area, spot_area
from dataset_engine.sample.wrinkles import wrinkle_area
from dataset_engine.taxonomy import Conflict

SMALLEST = 120  # px of a conflict's area under which nobody would paint it
FAINTEST = 0.3  # difference of a wrinkle's or make-up's strength that nobody would see


@dataclass(frozen=True)
class PairTruth:
    """The exact answer for a pair, all on the reference's pixels.

    Attributes:
        mask: bool [512, 512], consistent and transferable; inside `region`.
        region: bool [512, 512], the reference's face region.
        conflicts: the conflicts present.
        conflict_areas: bool [512, 512] for each of them, inside `region`; they may overlap.
    """

    mask: Mask
    region: Mask
    conflicts: frozenset[Conflict]
    conflict_areas: dict[Conflict, Mask]


def truth(seed: int, identity: int, gt: int, ref: int) -> PairTruth:
    """The answer for two shots of one identity of the sample with this seed."""
    person = Person(seed, identity)
    return compare(person, person.shot(gt), person.shot(ref))


def compare(person: Person, gt: Shot, ref: Shot, taken: Photograph | None = None) -> PairTruth:
    """The answer for two shots, drawn or altered, of one person; `taken` is `shoot(person, ref)`."""
    view = person.view(ref) if taken is None else taken.geometry
    region = region_of(person, ref, view) if taken is None else taken.region
    areas: dict[Conflict, Mask] = {}
    for conflict, area in _areas(person, gt, ref, view).items():
        inside = _paintable(area & region)
        if inside.sum() >= SMALLEST:
            areas[conflict] = inside
    mask = region.copy()
    for area in areas.values():
        mask &= ~area
    return PairTruth(mask, region, frozenset(areas), areas)


def _paintable(area: Mask) -> Mask:
    """Without the parts that are nowhere as wide as a small brush, as between strands of hair."""
    _, parts = cv2.connectedComponents(area.astype(np.uint8), connectivity=4)
    core = cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_OPEN, disk(2))
    return np.asarray(area & np.isin(parts, np.unique(parts[core > 0])))


def region_of(person: Person, shot: Shot, view: Geometry) -> Mask:
    """The face region [512, 512] of a shot."""
    worn = draw_glasses(person.identity, view, shot.light.direction) if shot.glasses else None
    return face_region(person, shot, view, worn)


def _areas(person: Person, gt: Shot, ref: Shot, view: Geometry) -> dict[Conflict, Mask]:
    identity, face = person.identity, (view.face_x - MARGIN, view.face_y - MARGIN)
    mouth = mouth_area(identity, ref.expression, *face)
    areas: dict[Conflict, Mask] = {}
    if gt.expression.mouth is not ref.expression.mouth:
        areas[Conflict.MOUTH] = mouth
    if gt.expression.closed_eyes != ref.expression.closed_eyes:
        areas[Conflict.EYES] = eye_area(identity, -1, *face) | eye_area(identity, 1, *face)
    if rest := [wrinkle_area(identity, group) for group in _wrinkles(gt, ref)]:
        areas[Conflict.WRINKLES] = _seen(rest, view)
    if gt.spots != ref.spots:
        areas[Conflict.PIGMENTATION] = _seen([spot_area(identity)], view)
    if gt.glasses != ref.glasses:
        worn = draw_glasses(identity, view, ref.light.direction)
        areas[Conflict.GLASSES] = glasses_area(worn)
    if (cosmetics := _cosmetics(identity, gt, ref, view, mouth)).any():
        areas[Conflict.COSMETICS] = cosmetics
    if gt.beard is not ref.beard:
        styles = [style for style in (gt.beard, ref.beard) if style is not BeardStyle.NONE]
        lips = mouth_area(identity, ref.expression, *face, margin=-2.5)
        grown = _seen([beard_area(identity, style) for style in styles], view)
        areas[Conflict.BEARD] = grown & ~lips
    if rest := _patterns(person, gt, ref):
        areas[Conflict.PATTERN] = _seen(rest, view)
    return areas


def _seen(rest: list[Mask], view: Geometry) -> Mask:
    """Areas of the resting face [576, 576], joined and carried into the image."""
    joined = np.logical_or.reduce(rest).astype(np.float32)
    return np.asarray(view.from_rest(joined) > 0.5)


def _wrinkles(gt: Shot, ref: Shot) -> list[str]:
    a, b = dict(gt.expression.wrinkles), dict(ref.expression.wrinkles)
    return [g for g in sorted(a | b) if abs(a.get(g, 0.0) - b.get(g, 0.0)) > FAINTEST]


def _cosmetics(identity: Identity, gt: Shot, ref: Shot, view: Geometry, mouth: Mask) -> Mask:
    a, b = gt.make_up, ref.make_up
    area = np.zeros_like(mouth)
    if abs(a.lips - b.lips) > FAINTEST:
        area |= mouth
    if abs(a.lids - b.lids) > FAINTEST:
        area |= _seen([lid_area(identity)], view)
    if abs(a.cheeks - b.cheeks) > FAINTEST:
        area |= _seen([cheek_area()], view)
    return area


def _patterns(person: Person, gt: Shot, ref: Shot) -> list[Mask]:
    rest = []
    if gt.paint != ref.paint:
        rest.append(paint_area(person.identity))
    if gt.covered != ref.covered and person.marks.tattoo.any():
        rest.append(close(grow(person.marks.tattoo > 0.05, 3), 6))
    return rest


def mark_areas(seed: int, identity: int, shot: int) -> dict[str, Mask]:
    """Where the identity's lasting marks can be seen in a shot.

    Returns:
        bool [512, 512] for "moles", "birthmark", "scars" and "tattoo"; all False for a kind that
        this person lacks, or that hair, glasses, beard, paint or a cover hides here.
    """
    person = Person(seed, identity)
    taken = person.shot(shot)
    view = person.view(taken)
    hidden = _hiding(person, taken)
    marks = person.marks
    layers = {
        "moles": marks.moles,
        "birthmark": marks.birthmark,
        "scars": marks.scars,
        "tattoo": np.zeros_like(marks.tattoo) if taken.covered else marks.tattoo,
    }
    open_skin = region_of(person, taken, view)
    if taken.glasses:
        worn = draw_glasses(person.identity, view, taken.light.direction)
        open_skin &= worn.frame < 0.5
    return {
        kind: np.asarray(view.from_rest(np.asarray(layer * (1 - hidden), np.float32)) > 0.4)
        & open_skin
        for kind, layer in layers.items()
    }


def _hiding(person: Person, shot: Shot) -> Field:
    hidden: Field = np.zeros((CANVAS, CANVAS), np.float32)
    if shot.beard is not BeardStyle.NONE:
        hidden = np.maximum(hidden, person.beard(shot.beard)[0])
    if shot.paint:
        for cover, _ in person.paints:
            hidden = np.maximum(hidden, cover)
    return np.asarray(np.clip(hidden, 0, 1), np.float32)

"""A first proposal without any training: the face region minus what two meshes and textures tell apart.

Regions whose state differs are taken out whole (mouth, eyes, the folds of a smile), and of the rest the
spots at which the ground truth, moved onto the reference, disagrees in texture. Each area carries the
conflict that it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.cold_start.expression import differing, expression
from dataset_engine.cold_start.parts import Mask, Part, eye_distance, facial_parts, grown
from dataset_engine.cold_start.texture import PairFaces, disagreement
from dataset_engine.taxonomy import Conflict

RULE_VERSION: Final = "rule-1"
"""Model version of the proposals that this rule makes."""

DISAGREES: Final = 0.16
"""Disagreement from which a spot is looked at; below it are noise and what the mesh is off by."""
CLEARLY: Final = 0.30
"""Disagreement that a spot has somewhere if it is a conflict: hysteresis keeps faint noise out."""
SMALLEST: Final = 60
"""Smallest spot, px^2."""
_EYES: Final = (Part.LEFT_EYE, Part.RIGHT_EYE)
_BROWS: Final = (Part.LEFT_BROW, Part.RIGHT_BROW)
_FOLDS: Final = (Part.LEFT_FOLD, Part.RIGHT_FOLD)
_BRIDGE: Final = 168
"""The mesh's point between the eyes."""
_BEARDED: Final = 0.07
"""Share of the chin that disagrees where a beard came or went."""
_GLAZED: Final = 0.14
"""Share of the band around the eyes, without eyes and brows and on either side of the nose, that
disagrees where glasses came or went."""
_FOLDED: Final = 0.10
"""Share of the folds that disagrees by half of `DISAGREES` where a smile made them."""
_MADE_UP: Final = 0.28
"""Share of the lips that disagrees where lipstick came or went."""
_STRONG: Final = 0.55
"""Mean disagreement of a spot that is no spot of the skin but drawn on it."""

_SEEN: Final = 0.24
"""Mean disagreement of a spot of the skin: a fainter one is more often shade."""


@dataclass(frozen=True, eq=False)
class RuleProposal:
    """What the rule says of a pair.

    Attributes:
        mask: bool [512, 512], inside the face region.
        areas: the areas taken out, by conflict; they may overlap.
        score: how sure the rule is, 0 to 1: the less of the rest nearly disagrees, the surer.
    """

    mask: Mask
    areas: Mapping[Conflict, Mask]
    score: float

    @property
    def conflicts(self) -> frozenset[Conflict]:
        """The conflicts that have an area."""
        return frozenset(self.areas)


def propose_by_rule(faces: PairFaces) -> RuleProposal:
    """Derive a proposal from both faces; the same input gives the same proposal."""
    region = faces.region
    parts = facial_parts(faces.reference_landmarks, region)
    apart = disagreement(faces)
    spots = strong_spots(apart)
    areas = _expressed(faces, parts, apart)
    for conflict, area in _worn(parts, spots, areas, faces.reference_landmarks):
        areas[conflict] = areas.get(conflict, np.zeros_like(region)) | area
    explained = np.zeros_like(region)
    for area in areas.values():
        explained |= area
    # light and shade draw on a nose what no mesh is fine enough to follow
    unlike_skin = _joined(parts, (Part.MOUTH, Part.NOSE, *_EYES, *_BROWS), region)
    for conflict, area in _on_skin(spots & ~grown(explained, 4) & ~unlike_skin, apart, parts):
        areas[conflict] = areas.get(conflict, np.zeros_like(region)) | area
    areas = {conflict: area & region for conflict, area in areas.items() if (area & region).any()}
    mask = region.copy()
    for area in areas.values():
        mask &= ~area
    doubtful = np.clip(apart[mask] / DISAGREES, 0, 1)
    return RuleProposal(mask, areas, float(1 - doubtful.mean()) if doubtful.size else 0.0)


def strong_spots(apart: NDArray[np.float32]) -> Mask:
    """The connected parts above `DISAGREES` that reach `CLEARLY` somewhere; bool [512, 512]."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (apart > DISAGREES).view(np.uint8), connectivity=8
    )
    kept = np.zeros(len(stats), np.bool_)
    kept[np.unique(labels[apart > CLEARLY])] = True
    kept &= stats[:, cv2.CC_STAT_AREA] >= SMALLEST
    kept[0] = False
    return np.asarray(kept[labels])


def _expressed(
    faces: PairFaces, parts: Mapping[Part, Mask], apart: NDArray[np.float32]
) -> dict[Conflict, Mask]:
    where = {Conflict.MOUTH: (Part.MOUTH,), Conflict.EYES: _EYES, Conflict.WRINKLES: _FOLDS}
    found = differing(expression(faces.gt_landmarks), expression(faces.reference_landmarks))
    areas = {one: _joined(parts, where[one], faces.region) for one in sorted(found)}
    folds = areas.get(Conflict.WRINKLES)
    if folds is not None:  # young faces smile without a fold
        smooth = folds & ~_joined(parts, (Part.MOUTH, Part.NOSE), folds)
        if _share(apart > DISAGREES / 2, smooth) < _FOLDED:
            del areas[Conflict.WRINKLES]
    return {conflict: area for conflict, area in areas.items() if area.any()}


def _worn(
    parts: Mapping[Part, Mask],
    spots: Mask,
    expressed: Mapping[Conflict, Mask],
    landmarks: NDArray[np.float32],
) -> list[tuple[Conflict, Mask]]:
    """Glasses, beard and lipstick: much of their part disagrees at once."""
    found, unit = [], eye_distance(landmarks)
    eyes = _joined(parts, (*_EYES, *_BROWS), spots)
    band = _joined(parts, (Part.GLASSES,), spots)
    left = np.arange(spots.shape[1]) < landmarks[_BRIDGE, 0]
    around = band & ~eyes
    if min(_share(spots, around & left), _share(spots, around & ~left)) > _GLAZED:
        found.append((Conflict.GLASSES, _joined_up(spots & band, 0.12 * unit) | (eyes & band)))
    mouth = _joined(parts, (Part.MOUTH,), spots)
    chin = _joined(parts, (Part.CHIN,), spots)
    if _share(spots, chin) > _BEARDED:
        low = chin | _joined(parts, (*_FOLDS, Part.LEFT_CHEEK, Part.RIGHT_CHEEK), spots)
        low |= _below(chin)
        beard = _joined_up(spots & low & ~mouth, 0.10 * unit)
        # along the jaw the mesh ends before the face does
        beard |= grown(beard, 0.25 * unit) & ~_inside(landmarks, spots) & low
        found.append((Conflict.BEARD, beard & ~mouth))
    elif Conflict.MOUTH not in expressed and _share(spots, mouth) > _MADE_UP:
        found.append((Conflict.COSMETICS, mouth))
    return found


def _on_skin(
    spots: Mask, apart: NDArray[np.float32], parts: Mapping[Part, Mask]
) -> list[tuple[Conflict, Mask]]:
    """What is left on the skin, by its shape: drawn patterns, lines of the forehead, spots."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(spots.view(np.uint8), connectivity=8)
    lined = _joined(parts, (Part.FOREHEAD, Part.GLASSES, *_FOLDS), spots)
    found = []
    for number in range(1, count):
        if stats[number, cv2.CC_STAT_AREA] < SMALLEST:
            continue
        spot = labels == number
        _, (width, height), _ = cv2.minAreaRect(np.argwhere(spot).astype(np.float32))
        strength = float(apart[spot].mean())
        long = max(width, height) > 3.5 * max(min(width, height), 1.0)
        if strength > _STRONG:
            conflict = Conflict.PATTERN
        elif long and lined[spot].mean() > 0.5:
            conflict = Conflict.WRINKLES
        elif strength > _SEEN:
            conflict = Conflict.PIGMENTATION
        else:
            continue
        found.append((conflict, grown(spot, 3)))
    return found


def _joined(parts: Mapping[Part, Mask], names: tuple[Part, ...], like: Mask) -> Mask:
    area = np.zeros_like(like)
    for name in names:
        if name in parts:
            area |= parts[name]
    return area


def _share(spots: Mask, area: Mask) -> float:
    return float(spots[area].mean()) if area.any() else 0.0


def _below(area: Mask) -> Mask:
    """The rows of an area and all below, where the mesh ends and a beard goes on."""
    rows = np.flatnonzero(area.any(axis=1))
    below = np.zeros_like(area)
    if rows.size:
        below[rows[0] + rows.size // 4 :] = True
    return below


def _inside(landmarks: NDArray[np.float32], like: Mask) -> Mask:
    area = np.zeros(like.shape, np.uint8)
    hull = cv2.convexHull(np.rint(landmarks).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(area, hull, 1), np.bool_)


def _joined_up(mask: Mask, reach: float) -> Mask:
    radius = max(round(reach), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    closed = cv2.morphologyEx(np.pad(mask.view(np.uint8), radius), cv2.MORPH_CLOSE, disc)
    return grown(closed[radius:-radius, radius:-radius].astype(np.bool_), 3)

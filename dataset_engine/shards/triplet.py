"""The triplet as the store hands it to the shards, and its description inside a shard."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dataset_engine.taxonomy import Conflict, Split, Status, scenarios

Point = tuple[float, float]

SIDE: Final = 512
"""Height and width of every image and mask of a triplet, px."""

FILE_MEMBERS: Final = ("gt.jpg", "gt.region.png", "mask.png", "ref.jpg", "ref.region.png")
DESCRIPTION: Final = "json"
MEMBERS: Final = ("gt.jpg", "gt.region.png", "json", "mask.png", "ref.jpg", "ref.region.png")
"""What follows ``KEY.`` in a sample's member names, in the order of the tar."""

NOT_STATED: Final = "unknown"
"""Licence or consent that nobody has stated."""

# The longest member name, KEY.ref.region.png, has to fit the 100 bytes of a USTAR header.
_KEY: Final = re.compile(r"[a-z0-9-]{1,80}")
_PHASH: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Triplet:
    """One reviewed (I, I_ref, M) of RefSel-HQ (paper, "Data Engine").

    Attributes:
        key: the sample's name: a-z, 0-9 and ``-``, at most 80 characters, no dots.
        identity: the person; an identity belongs to one split.
        split: where the identity is used.
        gt: the ground truth I, a JPEG, RGB 512x512.
        ref: the reference I_ref, a JPEG, RGB 512x512.
        gt_region: the ground truth's face region, a PNG, 0 or 255, 512x512.
        ref_region: the reference's face region, a PNG, 0 or 255, 512x512.
        mask: M on the reference's pixels, a 1-bit PNG, 512x512.
        conflicts: the conflicts that a person named.
        status: accepted or adjusted.
        round: the round in which the mask was made, from 0.
        annotator: who decided.
        model_version: the model that proposed the mask; None for a mask made by hand.
        gt_phash: 64-bit perceptual hash of the ground truth, 16 hex digits.
        ref_phash: the same of the reference.
        gt_points: five points (x, y) px of the ground truth.
        ref_points: the same of the reference.
        source: the collection that the images come from.
        licence: the licence under which the images may be used.
        consent: what the person agreed to; ``unknown`` where nobody has stated it.
    """

    key: str
    identity: str
    split: Split
    gt: Path
    ref: Path
    gt_region: Path
    ref_region: Path
    mask: Path
    conflicts: tuple[Conflict, ...]
    status: Status
    round: int
    annotator: str
    model_version: str | None
    gt_phash: str
    ref_phash: str
    gt_points: tuple[Point, ...]
    ref_points: tuple[Point, ...]
    source: str
    licence: str
    consent: str = NOT_STATED

    @property
    def files(self) -> tuple[Path, ...]:
        """The five files, in the order of ``FILE_MEMBERS``."""
        return self.gt, self.gt_region, self.mask, self.ref, self.ref_region


def is_key(text: str) -> bool:
    """Whether ``text`` may name a sample."""
    return _KEY.fullmatch(text) is not None


def check_triplet(triplet: Triplet) -> None:
    """Check everything of a triplet but its files.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    if not is_key(triplet.key):
        raise ValueError(
            f"key {triplet.key!r} has other characters than a-z, 0-9 and -, or over 80"
        )
    if not triplet.identity:
        raise ValueError("the identity is empty")
    for name in ("gt_phash", "ref_phash"):
        if not _PHASH.fullmatch(getattr(triplet, name)):
            raise ValueError(f"{name} {getattr(triplet, name)!r} is not 16 hex digits")
    for name in ("gt_points", "ref_points"):
        points = getattr(triplet, name)
        if len(points) != 5 or not all(math.isfinite(value) for point in points for value in point):
            raise ValueError(f"{name} are not five finite points")


def describe(triplet: Triplet) -> bytes:
    """The sample's ``json`` member: UTF-8, sorted keys, the same bytes for the same triplet."""
    conflicts = sorted(set(triplet.conflicts), key=list(Conflict).index)
    description = {
        "annotator": triplet.annotator,
        "conflicts": conflicts,
        "consent": triplet.consent,
        "gt_phash": triplet.gt_phash,
        "gt_points": triplet.gt_points,
        "identity": triplet.identity,
        "key": triplet.key,
        "licence": triplet.licence,
        "model_version": triplet.model_version,
        "ref_phash": triplet.ref_phash,
        "ref_points": triplet.ref_points,
        "round": triplet.round,
        "scenarios": scenarios(conflicts),
        "source": triplet.source,
        "split": triplet.split,
        "status": triplet.status,
    }
    return canonical(description)


def canonical(description: Mapping[str, Any]) -> bytes:
    """JSON whose bytes depend on the content alone."""
    return json.dumps(
        description, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def restore(description: bytes, files: dict[str, Path]) -> Triplet:
    """The triplet of a ``json`` member and the five files written from the others.

    Args:
        description: the ``json`` member's bytes.
        files: a path for each of ``FILE_MEMBERS``.

    Raises:
        ValueError: if the description lacks a field or a field has a wrong value.
    """
    try:
        fields: dict[str, Any] = json.loads(description)
        triplet = Triplet(
            key=fields["key"],
            identity=fields["identity"],
            split=Split(fields["split"]),
            gt=files["gt.jpg"],
            ref=files["ref.jpg"],
            gt_region=files["gt.region.png"],
            ref_region=files["ref.region.png"],
            mask=files["mask.png"],
            conflicts=tuple(Conflict(name) for name in fields["conflicts"]),
            status=Status(fields["status"]),
            round=int(fields["round"]),
            annotator=fields["annotator"],
            model_version=fields["model_version"],
            gt_phash=fields["gt_phash"],
            ref_phash=fields["ref_phash"],
            gt_points=tuple((float(x), float(y)) for x, y in fields["gt_points"]),
            ref_points=tuple((float(x), float(y)) for x, y in fields["ref_points"]),
            source=fields["source"],
            licence=fields["licence"],
            consent=fields.get("consent", NOT_STATED),  # sets of before have none
        )
        check_triplet(triplet)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the description is not a triplet's: {error!r}") from error
    return triplet

"""What the embedded sample knows of its shards' pairs: lasting marks, and glasses of one alone.

Both follow from the seed and a triplet's name, so that shards need not carry them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.sample import Person, compare, identity_index, mark_areas, shot_index
from dataset_engine.taxonomy import Conflict

Mask = NDArray[np.bool_]
REACH: Final = 12
"""How far apart, in px of 512, the same mark may lie in two aligned photographs of one face."""
_KEY: Final = re.compile(r"(.+)-([^-]+)-([^-]+)")


@dataclass(frozen=True, eq=False)
class SamplePair:
    """What is known about one pair; bool [512, 512] each.

    `marks` are moles, birthmark, scars and tattoo on the ground truth's pixels, where the reference
    shows the same one. `glasses` are those that the reference alone wears, on its own pixels.
    """

    marks: Mask
    glasses: Mask


def sample_pair(seed: int, key: str, mask: Mask) -> SamplePair:
    """What the sample with this seed knows of the triplet `key`.

    Args:
        seed: of the sample that was rendered.
        key: a triplet's name, as `sample-shards` gives it.
        mask: its M, bool [512, 512], by which another seed is noticed.

    Raises:
        ValueError: it is no triplet of the sample, or one of another seed.
    """
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise ValueError(f"{key} is no pair of the embedded sample; marks are known of those alone")
    name, gt, ref = parts[1], shot_index(parts[2]), shot_index(parts[3])
    person = Person(seed, identity_index(name))
    shots = person.shot(gt), person.shot(ref)
    exact = compare(person, *shots)
    if not np.array_equal(exact.mask, mask):
        raise ValueError(
            f"{key} was not rendered with seed {seed}; set REFSTAR_SEED to the seed of the shards"
        )
    worn = np.zeros_like(exact.mask)
    if shots[1].glasses and not shots[0].glasses:
        worn = exact.conflict_areas.get(Conflict.GLASSES, worn)
    return SamplePair(_shared(seed, person.identity.index, gt, ref), worn)


def _shared(seed: int, identity: int, gt: int, ref: int) -> Mask:
    """Where the ground truth shows a mark that the reference shows within `REACH`."""
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    shown, others = (mark_areas(seed, identity, shot) for shot in (gt, ref))
    shared = [
        area & (cv2.dilate(others[kind].astype(np.uint8), near) > 0) for kind, area in shown.items()
    ]
    return np.asarray(np.logical_or.reduce(shared), np.bool_)

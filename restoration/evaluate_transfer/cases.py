"""Test pairs: degraded once and for all, with what is known about their marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation import preset
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.shards.stream import example_seed
from restoration.evaluate_transfer.recovery import hidden, levels, mark_pixels
from restoration.refsel_data import Samples
from restoration.refstar_config import FaceData
from restoration.refstar_data import Face, FacePair, make_face

Mask = NDArray[np.bool_]


class KnownPair(Protocol):
    """What a source knows of a pair; bool [H, W] of the photographs' size."""

    @property
    def marks(self) -> Mask:
        """Lasting marks that both photographs show, on the ground truth's pixels."""

    @property
    def glasses(self) -> Mask:
        """Glasses of the reference alone, on its own pixels."""


KnownOf = Callable[[RefSelSample], KnownPair]


@dataclass(frozen=True, eq=False)
class Case:
    """One test pair at the networks' size; `face.mask` is the reviewed M, without the severe rule."""

    key: str
    identity: str
    face: Face
    marks: Mask
    """bool [S, S]: marks that the truth shows, M allows and the input hides."""
    glasses: Mask
    """bool [S, S], on the reference."""


def held_out_cases(
    samples: Samples, count: int, data: FaceData, seed: int, known: KnownOf | None
) -> Iterator[Case]:
    """At most `count` pairs, spread over the split, degraded as in training.

    Args:
        samples: triplets of identities that were not trained on.
        count: how many.
        data: size and degradation.
        seed: of the degradations.
        known: what the source knows of a pair; None leaves marks and glasses empty.
    """
    degradation = replace(preset(data.degradation), severe_threshold=0.0)
    number = min(count, len(samples))
    for index in np.linspace(0, len(samples), number, endpoint=False).astype(int).tolist():
        sample = samples[index]
        pair = FacePair(
            sample.gt, sample.reference, sample.gt_region, sample.mask, sample.ref_region
        )
        face = make_face(pair, example_seed(seed, 1, index), degradation, data.size)
        marks: Mask = np.zeros((data.size, data.size), np.bool_)
        glasses = marks
        if known is not None:
            found = known(sample)
            marks = _hidden_marks(found.marks, face)
            glasses = _shrunk(found.glasses, data.size) & ~face.mask
        yield Case(sample.key, sample.identity, face, marks, glasses)


def strangers(cases: Sequence[Case]) -> list[Case]:
    """For each case another person's, by going half round the list and on.

    Raises:
        ValueError: all cases are of one person.
    """
    count = len(cases)
    chosen = []
    for place, case in enumerate(cases):
        others = (cases[(place + count // 2 + step) % count] for step in range(count))
        other = next((one for one in others if one.identity != case.identity), None)
        if other is None:
            raise ValueError(
                "all test pairs are of one person; another person's reference is needed"
            )
        chosen.append(other)
    return chosen


def _hidden_marks(marks: Mask, face: Face) -> Mask:
    place = mark_pixels(marks, face.mask, face.truth.shape[0])
    unseen = hidden(levels(face.degraded), levels(face.truth), place)
    return place if unseen else np.zeros_like(place)


def _shrunk(mask: Mask, size: int) -> Mask:
    share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0.3, np.bool_)

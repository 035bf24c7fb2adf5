"""What the sample knows of its shards' pairs."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_engine.sample import Person, compare, mark_areas
from dataset_engine.sample_marks import sample_pair


def _pair(seed: int, identity: int, gt: int, ref: int):
    person = Person(seed, identity)
    exact = compare(person, person.shot(gt), person.shot(ref))
    return exact, f"sample-{identity:04d}-{gt:02d}-{ref:02d}"


def test_marks_lie_where_the_ground_truth_shows_them():
    exact, key = _pair(0, 3, 0, 1)
    found = sample_pair(0, key, exact.mask)
    shown = np.logical_or.reduce(list(mark_areas(0, 3, 0).values()))
    assert found.marks.any()
    assert not (found.marks & ~shown).any()


def test_glasses_are_those_of_the_reference_alone():
    wearers = (
        (number, person.shot(0).glasses, person.shot(1).glasses)
        for number in range(200)
        for person in [Person(0, number)]
    )
    number, first, _ = next(one for one in wearers if one[1] != one[2])
    bare, worn = (1, 0) if first else (0, 1)
    exact, key = _pair(0, number, bare, worn)
    found = sample_pair(0, key, exact.mask)
    assert found.glasses.sum() > 500
    assert not (found.glasses & exact.mask).any()
    exact, key = _pair(0, number, worn, bare)
    assert not sample_pair(0, key, exact.mask).glasses.any()


def test_shards_of_another_seed_or_source_are_one_clear_error():
    exact, key = _pair(1, 3, 0, 1)
    with pytest.raises(ValueError, match="REFSTAR_SEED"):
        sample_pair(0, key, exact.mask)
    for name in ("someone-00-01", "photograph"):
        with pytest.raises(ValueError, match="sample"):
            sample_pair(0, name, exact.mask)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_engine.sample import identity_index, shot_index, truth
from dataset_engine.sample_shards import SampleSize, choose_by_scenario, write_sample_shards
from dataset_engine.shards import RefSelShards, Scenario, Split, Triplet, scenarios
from dataset_engine.taxonomy import Conflict, Status

TINY = SampleSize(train=2, validation=1, test=1, shots=3, pairs=2, per_scenario=3)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_sample_shards(folder / "work", folder / "out", TINY, seed=7)
    return folder


def test_every_split_has_its_own_people_and_the_exact_masks(written):
    identities: set[str] = set()
    for split, pairs in ((Split.TRAIN, 4), (Split.VALIDATION, 2)):
        found = RefSelShards(written / "out", split)
        assert len(found) == pairs
        for sample in (found[index] for index in range(pairs)):
            gt, ref = (shot_index(part) for part in sample.key.split("-")[-2:])
            exact = truth(7, identity_index(sample.identity), gt, ref)
            assert np.array_equal(sample.mask, exact.mask)
            assert np.array_equal(sample.ref_region, exact.region)
            assert set(sample.conflicts) == exact.conflicts
        own = {found[index].identity for index in range(pairs)}
        assert not own & identities
        identities |= own
    test = RefSelShards(written / "out", Split.TEST)
    assert len(test)
    for index in range(len(test)):
        assert scenarios(test[index].conflicts)


def test_a_second_call_keeps_what_is_rendered_and_makes_no_new_version(written):
    rendered = {path: path.stat().st_mtime_ns for path in (written / "work").rglob("*.jpg")}
    report = write_sample_shards(written / "work", written / "out", TINY, seed=7)
    assert not report.created
    assert {path: path.stat().st_mtime_ns for path in (written / "work").rglob("*.jpg")} == rendered


def test_each_scenario_gets_its_pairs_and_none_is_taken_twice():
    kinds = (Conflict.MOUTH, Conflict.EYES, Conflict.WRINKLES, Conflict.BEARD, Conflict.GLASSES)
    people = [
        [
            _triplet(f"{person}-{number}", (kinds[number % 5], kinds[(number + person) % 5]))
            for number in range(10)
        ]
        for person in range(4)
    ]
    chosen = choose_by_scenario(people, per_scenario=4)
    keys = [one.key for one in chosen]
    assert len(chosen) == len(set(keys)) == 4 * len(Scenario)
    for scenario in Scenario:
        assert sum(scenario in scenarios(one.conflicts) for one in chosen) >= 4


def test_pairs_without_a_conflict_test_nothing():
    assert choose_by_scenario([[_triplet("a", ())]], per_scenario=4) == []


def test_a_size_that_makes_no_pairs_is_refused():
    with pytest.raises(ValueError, match="shots must be at least 2"):
        replace(TINY, shots=1)
    with pytest.raises(ValueError, match="at least 1"):
        replace(TINY, test=0)


def _triplet(key: str, conflicts: tuple[Conflict, ...]) -> Triplet:
    nowhere = Path("nowhere")
    points = ((0.0, 0.0),) * 5
    return Triplet(
        key=key,
        identity="one",
        split=Split.TEST,
        gt=nowhere,
        ref=nowhere,
        gt_region=nowhere,
        ref_region=nowhere,
        mask=nowhere,
        conflicts=conflicts,
        status=Status.ACCEPTED,
        round=0,
        annotator="a",
        model_version=None,
        gt_phash="0" * 16,
        ref_phash="0" * 16,
        gt_points=points,
        ref_points=points,
        source="s",
        licence="l",
    )

"""A test set of a RefSel-HQ export: its test people alone, and the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dataset_engine.cli import app
from dataset_engine.faces.quality import perceptual_hash
from dataset_engine.shard_test_set import build_shard_test_set
from dataset_engine.shards import RefSelShards, Split, Triplet, write_version
from dataset_engine.testing_sets import changed_files
from dataset_engine.trained_people import TrainedPeople, trained_people

TESTED = {"person-004", "person-009"}


@pytest.fixture
def export(triplets: Callable[..., list[Triplet]], tmp_path: Path) -> Path:
    """Six people, two of whom are in the test split."""
    write_version(triplets(15) + triplets(4, start=90), tmp_path / "out")
    return tmp_path / "out"


def names(out: Path) -> set[str]:
    return {one["name"] for one in json.loads((out / "test-set.json").read_text())["faces"]}


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def test_each_test_person_gets_one_of_their_pairs(export: Path, tmp_path: Path) -> None:
    made = build_shard_test_set(export, tmp_path / "set")
    assert names(tmp_path / "set") == TESTED
    pairs = {sample.key: sample for sample in RefSelShards(export, Split.TEST)}
    for face in made.faces:
        sample = pairs[face.sources["pair"]]
        assert sample.identity == face.name
        assert np.array_equal(read(tmp_path / "set" / "gt" / f"{face.name}.png"), sample.gt)
        assert np.array_equal(read(tmp_path / "set" / "ref" / f"{face.name}.png"), sample.reference)
        region = cv2.imread(str(tmp_path / "set" / "gt" / f"{face.name}.region.png"), 0)
        assert np.array_equal(region > 0, sample.gt_region)
        degraded = read(tmp_path / "set" / "lq" / f"{face.name}.png")
        assert degraded.shape == sample.gt.shape
        assert not np.array_equal(degraded, sample.gt)


def test_the_same_seed_gives_the_same_bytes_and_fewer_people_can_be_asked_for(
    export: Path, tmp_path: Path
) -> None:
    first = build_shard_test_set(export, tmp_path / "a")
    assert build_shard_test_set(export, tmp_path / "b").sha256 == first.sha256
    assert build_shard_test_set(export, tmp_path / "c", seed=1).sha256 != first.sha256
    assert not list(changed_files(tmp_path / "a"))
    assert len(build_shard_test_set(export, tmp_path / "d", count=1).faces) == 1


def test_a_damaged_pair_is_set_aside_and_the_persons_next_one_taken(
    export: Path, damage: Callable[..., Path], tmp_path: Path
) -> None:
    (drawn,) = (
        face.sources["pair"]
        for face in build_shard_test_set(export, tmp_path / "whole").faces
        if face.name == "person-004"
    )
    damage(export, drawn, "gt.jpg")
    made = build_shard_test_set(export, tmp_path / "set")
    assert names(tmp_path / "set") == TESTED
    assert drawn not in {face.sources["pair"] for face in made.faces}
    ((reason, detail),) = {(one.reason, one.detail) for one in made.left}
    assert reason == "corrupt"
    assert drawn in detail


def test_people_of_another_training_are_left_out(export: Path, tmp_path: Path) -> None:
    assert trained_people(export).named("person-000")
    named = TrainedPeople({"person-009"}, [])
    made = build_shard_test_set(export, tmp_path / "named", trained=named)
    assert names(tmp_path / "named") == {"person-004"}
    assert [one.reason for one in made.left] == ["trained_on"]

    every = [perceptual_hash(sample.gt) for sample in RefSelShards(export, Split.TEST)]
    with pytest.raises(ValueError, match="trained_on"):
        build_shard_test_set(export, tmp_path / "seen", trained=TrainedPeople(set(), every))


def test_the_command_tells_shards_by_themselves_and_asks_for_no_list_of_the_trained(
    export: Path, tmp_path: Path
) -> None:
    words = ["make-test-set", export, "-o", tmp_path / "set", "--preset", "hidden-marks"]
    answer = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), *map(str, words)])
    assert answer.exit_code == 0, answer.output
    listed = json.loads((tmp_path / "set" / "test-set.json").read_text())
    assert (listed["degradation"], listed["version"]) == ("hidden-marks", "v001")
    assert f"2 faces are in {tmp_path}/set, SHA-256 {listed['sha256'][:16]}\n" in answer.output
    assert "--trained-on" not in answer.output

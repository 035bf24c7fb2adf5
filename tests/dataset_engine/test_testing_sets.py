"""Test sets: drawn by seed, written with hashes, free of those who were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.testing_sets import build_celeb_ref_test, build_real_set, changed_files
from dataset_engine.trained_people import TrainedPeople, trained_people

LENIENT = PrepareSettings(min_sharpness=0, min_bright=0, max_dark=255)


class SeesNothing:
    """The images bring their own points; no face is ever found."""

    def analyse(self, image: np.ndarray) -> list:
        return []

    def person(self, image: np.ndarray) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


def face(path: Path, seed: int) -> Path:
    """An aligned picture with its points and its region beside it."""
    from dataset_engine.faces.alignment import TEMPLATE

    path.parent.mkdir(parents=True, exist_ok=True)
    rough = np.random.default_rng(seed).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    picture = cv2.resize(rough, (512, 512), interpolation=cv2.INTER_CUBIC)
    PillowImage.fromarray(picture).save(path)
    points = json.dumps({"five_points": TEMPLATE.tolist()})
    path.with_name(path.stem + ".face.json").write_text(points)
    region = np.zeros((512, 512), np.uint8)
    region[150:420, 130:380] = 255
    PillowImage.fromarray(region).save(path.with_name(path.stem + ".region.png"))
    return path


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Six people with three pictures each."""
    root = tmp_path / "CelebA"
    lines = []
    for number in range(18):
        face(root / "img_celeba" / f"{number:06d}.png", number)
        lines.append(f"{number:06d}.jpg {number // 3}")
    (root / "identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    return root


def build(celeba: Path, out: Path, **settings: object) -> dict:
    made = build_celeb_ref_test(
        celeba, out, SeesNothing(), prepare=LENIENT, **{"count": 3, **settings}
    )
    document = json.loads((out / "test-set.json").read_text())
    assert document["sha256"] == made.sha256
    return document


def test_the_same_seed_draws_the_same_bytes_and_another_one_others(
    celeba: Path, tmp_path: Path
) -> None:
    first = build(celeba, tmp_path / "a")
    assert first["sha256"] == build(celeba, tmp_path / "b")["sha256"]
    assert first["sha256"] != build(celeba, tmp_path / "c", seed=1)["sha256"]
    assert len(first["faces"]) == 3


def test_each_person_gets_truth_region_reference_and_degraded_input(
    celeba: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    for one in build(celeba, out)["faces"]:
        name = one["name"]
        gt, lq = (cv2.imread(str(out / role / f"{name}.png")) for role in ("gt", "lq"))
        assert gt.shape == lq.shape == (512, 512, 3)
        assert np.abs(gt.astype(int) - lq).mean() > 1
        assert one["sources"]["gt"] != one["sources"]["ref"]
        assert (out / "gt" / f"{name}.region.png").is_file()
        assert len(one["sha256"]) == 4


def test_a_changed_file_is_found_by_its_hash(celeba: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    name = build(celeba, out)["faces"][0]["name"]
    assert not list(changed_files(out))
    (out / "lq" / f"{name}.png").write_bytes(b"other")
    assert list(changed_files(out)) == [f"lq/{name}.png"]


def test_nobody_who_was_trained_on_by_name_or_by_picture_is_in_the_set(
    celeba: Path, tmp_path: Path
) -> None:
    training = tmp_path / "training"
    face(training / "4" / "x.png", 900)  # the name of one of CelebA's people
    face(training / "someone" / "y.png", 6)  # a picture of person 2, and under another name
    trained = trained_people(training)
    document = build(celeba, tmp_path / "set", count=6, trained=trained)
    names = {one["name"] for one in document["faces"]}
    assert "4" not in names
    used = {name for one in document["faces"] for name in one["sources"].values()}
    assert "000006.png" not in used
    assert "trained_on" in {one["reason"] for one in document["set_aside"]}


def test_a_picture_counts_as_trained_on_when_its_hash_is_near() -> None:
    people = TrainedPeople({"anna"}, ["00000000000000ff"])
    assert people.pictured("00000000000000fe")
    assert not people.pictured("ffffffffffffff00")
    assert not TrainedPeople(set(), []).pictured("00000000000000ff")


def test_two_copies_of_one_photograph_are_no_pair(tmp_path: Path) -> None:
    root = tmp_path / "CelebA"
    for number in (1, 2):
        face(root / "img_celeba" / f"{number:06d}.png", 5)
    (root / "identity_CelebA.txt").write_text("000001.jpg 7\n000002.jpg 7\n")
    with pytest.raises(ValueError, match="too_few_images"):
        build_celeb_ref_test(root, tmp_path / "set", SeesNothing(), prepare=LENIENT)


def test_real_photographs_are_matched_by_name_and_the_others_are_named(tmp_path: Path) -> None:
    root = tmp_path / "real"
    face(root / "ref" / "anna.png", 1)
    face(root / "ref" / "bela.png", 2)
    (root / "LQ").mkdir()
    for name in ("anna", "carl"):
        small = np.random.default_rng(3).integers(0, 255, (90, 90, 3)).astype(np.uint8)
        PillowImage.fromarray(small).save(root / "LQ" / f"{name}.jpg")
    made = build_real_set(root, tmp_path / "set", SeesNothing(), prepare=LENIENT)
    assert [one.name for one in made.faces] == ["anna"]
    assert {(one.path.name, one.reason) for one in made.left} == {
        ("bela.png", "no_input"),
        ("carl.jpg", "no_reference"),
    }
    assert cv2.imread(str(tmp_path / "set" / "lq" / "anna.png")).shape == (512, 512, 3)

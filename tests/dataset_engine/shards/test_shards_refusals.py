from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest

from dataset_engine.shards import ExportRefusedError, ShardError, write_version
from dataset_engine.shards.leaks import near_duplicates
from dataset_engine.taxonomy import Split


def test_an_identity_in_two_splits_refuses_the_export(triplets, tmp_path):
    made = triplets(10)
    made[5] = replace(made[5], split=Split.TEST)
    with pytest.raises(ExportRefusedError) as caught:
        write_version(made, tmp_path / "out")
    (finding,) = caught.value.findings
    assert (finding.name, finding.count) == ("identity-leak", 1)
    assert "person-000" in finding.examples[0]
    assert "pair-00005" in finding.examples[0]
    assert "one split" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_one_picture_in_two_splits_refuses_the_export(triplets, tmp_path):
    made = triplets(10)
    near = f"{int(made[0].gt_phash, 16) ^ 0b1011:016x}"
    picture = cv2.imread(str(made[0].gt))
    cv2.imwrite(str(made[4].ref), picture, [cv2.IMWRITE_JPEG_QUALITY, 40])
    made[4] = replace(made[4], ref_phash=near)
    with pytest.raises(ExportRefusedError) as caught:
        write_version(made, tmp_path / "out")
    (finding,) = caught.value.findings
    assert (finding.name, finding.count) == ("near-duplicate", 1)
    assert finding.examples == (
        (
            "pair-00000 (ground truth, train) and pair-00004 (reference, test): one picture, "
            "3 bits differ"
        ),
    )
    assert "their pixels agree" in str(caught.value)
    report = write_version(made, tmp_path / "out", near_duplicate_bits=2)
    assert report.created


def test_other_pictures_with_close_hashes_are_exported(triplets, tmp_path):
    made = triplets(10)
    made[4] = replace(made[4], ref_phash=made[0].gt_phash)
    assert write_version(made, tmp_path / "out").created


def test_a_copy_is_found_behind_another_picture_of_the_same_hash(triplets, tmp_path):
    made = triplets(10)
    made[5] = replace(made[5], gt_phash=made[0].gt_phash)
    made[4] = replace(made[4], ref=made[5].gt, ref_phash=made[0].gt_phash)
    with pytest.raises(ExportRefusedError, match="near-duplicate: 1 found") as caught:
        write_version(made, tmp_path / "out")
    assert "pair-00005 (ground truth, train)" in caught.value.findings[0].examples[0]


def test_a_picture_that_cannot_be_compared_is_named(triplets, tmp_path):
    made = triplets(10)
    whole = made[4].ref.read_bytes()
    frame = whole[: whole.index(b"\xff\xda")]  # all headers, and no pixels
    made[4].ref.write_bytes(frame.replace(b"\xff\xc4", b"\xff\xfe") + b"\xff\xd9")
    made[4] = replace(made[4], ref_phash=made[0].gt_phash)
    with pytest.raises(ShardError, match=r"pair-00004-ref.jpg: .*Restore the file"):
        write_version(made, tmp_path / "out")


def test_one_picture_in_two_pairs_of_a_split_is_no_leak(triplets, tmp_path):
    made = triplets(10)
    made[5] = replace(made[5], gt_phash=made[0].gt_phash, ref_phash=made[1].gt_phash)
    assert write_version(made, tmp_path / "out").created


def test_a_mask_outside_its_face_region_refuses_the_export(triplets, tmp_path):
    made = triplets(5)
    mask = cv2.imread(str(made[3].mask), cv2.IMREAD_GRAYSCALE)
    mask[5, 5:12] = 255
    cv2.imwrite(str(made[3].mask), mask, [cv2.IMWRITE_PNG_BILEVEL, 1])
    with pytest.raises(ExportRefusedError, match="mask-outside-region: 1 found") as caught:
        write_version(made, tmp_path / "out")
    assert caught.value.findings[0].examples == (f"pair-00003: 7 px of {made[3].mask}",)


def test_all_refusals_are_named_at_once_and_let_through_by_name(triplets, tmp_path):
    made = triplets(30)
    same = made[0].gt
    leaking = [replace(t, split=Split.TEST, gt=same, gt_phash="0" * 16) for t in made[15:]]
    made = [replace(t, gt=same, gt_phash="0" * 15 + "1") for t in made[:15]] + leaking
    with pytest.raises(ExportRefusedError) as caught:
        write_version(made, tmp_path / "out", allow=["near-duplicate"])
    assert [finding.name for finding in caught.value.findings] == ["identity-leak"]
    with pytest.raises(ExportRefusedError) as caught:
        write_version(made, tmp_path / "out")
    assert [f.name for f in caught.value.findings] == ["identity-leak", "near-duplicate"]
    report = write_version(made, tmp_path / "out", allow=["near-duplicate", "identity-leak"])
    assert [finding.name for finding in report.allowed] == ["identity-leak", "near-duplicate"]
    manifest = json.loads((report.folder / "manifest.json").read_bytes())
    assert set(manifest["allowed"]) == {"identity-leak", "near-duplicate"}
    assert "in spite of:** `identity-leak`" in (report.folder / "README.md").read_text()


def test_only_ten_examples_are_shown(triplets, tmp_path):
    made = [replace(t, gt_phash=f"{n:016x}") for n, t in enumerate(triplets(15))]
    made = [replace(t, identity=f"p{n}") for n, t in enumerate(made)]
    twins = [
        replace(t, key=f"twin-{n}", identity=f"q{n}", split=Split.TEST, ref_phash="f" * 16)
        for n, t in enumerate(made)
        if t.split is not Split.TEST
    ]
    with pytest.raises(ExportRefusedError) as caught:
        write_version([*made, *twins], tmp_path / "out", near_duplicate_bits=0)
    (finding,) = caught.value.findings
    assert len(finding.examples) == 10
    assert finding.count > 10
    assert f"and {finding.count - 10} more" in str(finding)


@pytest.mark.parametrize("distance", [0, 3, 4, 8, 9, 16])
def test_near_duplicates_are_those_that_comparing_everything_finds(distance):
    random = np.random.default_rng(distance)
    hashes = random.integers(0, 2**64, 300, dtype=np.uint64)
    for row in range(100, 200):
        hashes[row] = hashes[row - 100]
        for bit in random.choice(64, random.integers(0, distance + 3), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    splits = random.integers(0, 3, 300).astype(np.uint8)
    # The same image may stand in a split again; it is one image.
    seen: set[tuple[int, int]] = set()
    expected = []
    for a, b in combinations(range(300), 2):
        bits = int(np.bitwise_count(hashes[a] ^ hashes[b]))
        pair = frozenset({(int(hashes[a]), int(splits[a])), (int(hashes[b]), int(splits[b]))})
        if splits[a] != splits[b] and bits <= distance and pair not in seen:
            seen.add(pair)
            expected.append((a, b, bits))
    count, examples = near_duplicates(hashes, splits, distance)
    assert expected
    assert count == len(expected)
    assert [tuple(example) for example in examples] == expected[:10]


def test_only_confirmed_pairs_are_counted_and_each_is_asked_for_once():
    hashes = np.array([0, 1, 3, 0, 2**63, 2**40 - 1], np.uint64)
    splits = np.array([0, 0, 0, 1, 1, 1], np.uint8)
    asked: list[tuple[int, int]] = []

    def confirm(first: int, second: int) -> bool:
        asked.append((first, second))
        return first == 1

    images = np.arange(6, dtype=np.uint64)
    count, examples = near_duplicates(hashes, splits, 8, images=images, confirm=confirm)
    assert sorted(asked) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)]
    assert (count, [tuple(pair) for pair in examples]) == (2, [(1, 3, 1), (1, 4, 2)])


def test_many_images_are_compared_in_seconds_and_little_memory():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 200_000, dtype=np.uint64)
    splits = (random.random(200_000) < 0.1).astype(np.uint8)
    first = int(np.flatnonzero(splits == 0)[-1])
    second = int(np.flatnonzero(splits == 1)[0])
    hashes[second] = hashes[first] ^ np.uint64(0b1111)
    count, examples = near_duplicates(hashes, splits, 4)
    assert (count, examples[0].distance) == (1, 4)
    assert {examples[0].first, examples[0].second} == {first, second}


def test_a_distance_out_of_range_is_refused():
    with pytest.raises(ValueError, match="17 bits"):
        near_duplicates(np.zeros(2, np.uint64), np.zeros(2, np.uint8), 17)

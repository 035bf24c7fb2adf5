from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dataset_engine.shards import ShardError, write_version
from dataset_engine.taxonomy import Conflict, Split


def keys_of(shard: Path) -> list[str]:
    with tarfile.open(shard) as tar:
        names = [name.split(".")[0] for name in tar.getnames()]
    return list(dict.fromkeys(names))


def test_a_version_has_shards_by_split_index_manifest_card_and_pointer(triplets, tmp_path, tree):
    report = write_version(triplets(10), tmp_path / "out", max_samples_per_shard=4)
    assert sorted(tree(tmp_path / "out")) == [
        "latest",
        "v001/README.md",
        "v001/card/beard.jpg",
        "v001/card/eyes.jpg",
        "v001/card/glasses_patterns.jpg",
        "v001/card/mouth.jpg",
        "v001/card/wrinkles.jpg",
        "v001/index.json",
        "v001/manifest.json",
        "v001/test/refsel-hq-000000.tar",
        "v001/train/refsel-hq-000000.tar",
        "v001/train/refsel-hq-000001.tar",
        "v001/validation/refsel-hq-000000.tar",
    ]
    assert (tmp_path / "out/latest").read_text() == "v001\n"
    assert (report.version, report.created, report.triplets, report.shards) == ("v001", True, 10, 4)
    assert (report.written, report.linked, report.resumed) == (4, 0, 0)
    assert report.counts["triplets"]["all"] == {"train": 6, "validation": 2, "test": 2}


def test_members_are_the_files_bytes_under_fixed_metadata(triplets, tmp_path):
    made = triplets(5)
    write_version(made, tmp_path / "out")
    with tarfile.open(tmp_path / "out/v001/train/refsel-hq-000000.tar", "r:") as tar:
        members = tar.getmembers()
        first = [member.name for member in members[:6]]
        assert first == [
            f"pair-00000.{name}"
            for name in ("gt.jpg", "gt.region.png", "json", "mask.png", "ref.jpg", "ref.region.png")
        ]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
        assert tar.extractfile("pair-00000.ref.jpg").read() == made[0].ref.read_bytes()
        assert tar.extractfile("pair-00000.mask.png").read() == made[0].mask.read_bytes()
        description = json.loads(tar.extractfile("pair-00001.json").read())
    assert description["conflicts"] == ["eyes", "wrinkles"]
    assert description["scenarios"] == ["eyes", "wrinkles"]
    assert description["annotator"] == "béa"
    assert description["ref_points"][0] == [193.0, 240.0]


def test_the_index_gives_the_place_and_digest_of_every_member(triplets, tmp_path):
    write_version(triplets(6), tmp_path / "out", max_samples_per_shard=2)
    index = json.loads((tmp_path / "out/v001/index.json").read_bytes())
    assert index["limits"] == {"samples": 2, "bytes": 256 * 2**20}
    seen = 0
    for shard in index["shards"]:
        data = (tmp_path / "out/v001" / shard["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["size"], shard["sha256"])
        for sample in shard["samples"]:
            for offset, size, digest in sample["members"].values():
                assert hashlib.sha256(data[offset : offset + size]).hexdigest() == digest
                seen += 1
    assert seen == 6 * 6


def test_the_same_state_gives_the_same_bytes_in_any_order(triplets, tmp_path, tree):
    made = triplets(12)
    write_version(made, tmp_path / "a", max_samples_per_shard=3)
    random.Random(1).shuffle(made)
    write_version(iter(made), tmp_path / "b", max_samples_per_shard=3)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_nothing_new_makes_no_new_version(triplets, tmp_path, tree):
    made = triplets(6)
    write_version(made, tmp_path / "out")
    before = tree(tmp_path / "out")
    report = write_version(made, tmp_path / "out")
    assert (report.version, report.created, report.written) == ("v001", False, 0)
    assert tree(tmp_path / "out") == before


def test_a_shard_is_closed_by_bytes_as_well(triplets, tmp_path):
    limit = 120_000
    report = write_version(triplets(10), tmp_path / "out", max_bytes=limit)
    sizes = [path.stat().st_size for path in report.folder.glob("*/*.tar")]
    assert len(sizes) > 4
    assert max(sizes) <= limit


def test_a_new_version_links_what_is_unchanged_and_leaves_the_old_one_alone(
    triplets, one_triplet, tmp_path, tree
):
    out = tmp_path / "out"
    made = triplets(20)
    write_version(made, out, max_samples_per_shard=4)
    before = tree(out / "v001")
    changed = replace(made[1], annotator="eve")
    state = [made[0], changed, *made[2:15], *made[16:], one_triplet(21)]
    report = write_version(state, out, max_samples_per_shard=4)
    assert tree(out / "v001") == before
    assert (report.version, report.added, report.removed, report.changed) == ("v002", 1, 1, 1)
    manifest = json.loads((out / "v002/manifest.json").read_bytes())
    assert manifest["difference"] == {
        "added": ["pair-00021"],
        "removed": ["pair-00015"],
        "changed": ["pair-00001"],
    }
    (parent,) = manifest["parents"]
    assert parent["version"] == "v001"
    assert parent["manifest_sha256"] == hashlib.sha256(before["manifest.json"]).hexdigest()
    assert report.linked >= 1
    linked = [p for p in (out / "v002").glob("*/*.tar") if p.stat().st_nlink == 2]
    assert len(linked) == report.linked
    every = [key for path in (out / "v002").glob("*/*.tar") for key in keys_of(path)]
    assert sorted(every) == sorted(t.key for t in state)
    assert (out / "latest").read_text() == "v002\n"


def test_full_shards_survive_keys_that_sort_before_theirs(triplets, tmp_path):
    made = [t for t in triplets(50) if t.split is Split.TRAIN]
    late, early = made[8:], made[:8]
    out = tmp_path / "out"
    write_version(late, out, max_samples_per_shard=5)
    report = write_version([*late, *early], out, max_samples_per_shard=5)
    full = len(late) // 5
    assert report.linked >= full
    first = out / "v002/train/refsel-hq-000000.tar"
    assert first.samefile(out / "v001/train/refsel-hq-000000.tar")


def test_a_version_without_its_parent_is_complete(triplets, one_triplet, tmp_path):
    out = tmp_path / "out"
    made = triplets(8)
    write_version(made, out, max_samples_per_shard=2)
    write_version([*made, one_triplet(9)], out, max_samples_per_shard=2)
    for path in sorted((out / "v001").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (out / "v001").rmdir()
    keys = [key for path in (out / "v002").glob("*/*.tar") for key in keys_of(path)]
    assert len(keys) == 9


def test_a_damaged_parent_shard_is_written_anew_instead_of_linked(triplets, one_triplet, tmp_path):
    out = tmp_path / "out"
    made = triplets(10)
    write_version(made, out, max_samples_per_shard=2)
    shard = out / "v001/train/refsel-hq-000000.tar"
    sound = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(sound[:5000] + b"\xff" + sound[5001:])
    write_version([*made, one_triplet(11)], out, max_samples_per_shard=2)
    assert (out / "v002/train/refsel-hq-000000.tar").read_bytes() == sound


def test_a_disk_without_links_gets_copies(triplets, one_triplet, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    out = tmp_path / "out"
    made = triplets(10)
    write_version(made, out, max_samples_per_shard=2)
    monkeypatch.setattr(os, "link", refuse)
    report = write_version([*made, one_triplet(11)], out, max_samples_per_shard=2)
    assert report.linked > 0
    first = Path("train/refsel-hq-000000.tar")
    assert (out / "v002" / first).read_bytes() == (out / "v001" / first).read_bytes()
    assert not (out / "v002" / first).samefile(out / "v001" / first)


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 px."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk))


def spoil(path: Path, what: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if what == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif what == "flip":
        path.write_bytes(data[:60] + bytes([data[60] ^ 255]) + data[61:])
    elif what == "bomb":
        path.write_bytes(bomb())
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "empty":
        path.touch()


@pytest.mark.parametrize(
    ("field", "what", "reason"),
    [
        ("gt", "missing", "No such file"),
        ("gt", "cut", "truncated JPEG"),
        ("ref", "empty", "not a JPEG"),
        ("mask", "cut", "truncated PNG"),
        ("mask", "flip", "checksum"),
        ("mask", "bomb", "60000x60000 px, not 512x512"),
        ("gt_region", "cut", "truncated PNG"),
        ("ref_region", "pipe", "not a plain file"),
        ("gt_region", "empty", "not a PNG"),
    ],
)
def test_a_bad_file_sets_its_triplet_aside(triplets, tmp_path, field, what, reason):
    made = triplets(5)
    path = getattr(made[2], field)
    spoil(path, what)
    report = write_version(made, tmp_path / "out")
    assert report.triplets == 4
    (bad,) = report.set_aside
    assert bad.key == made[2].key
    assert str(path) in bad.reason
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "pair.1"}, "key 'pair.1'"),
        ({"key": "../up"}, "key '../up'"),
        ({"key": "x" * 81}, "over 80"),
        ({"identity": ""}, "identity is empty"),
        ({"gt_phash": "zz"}, "not 16 hex digits"),
        ({"ref_points": ((0.0, 1.0),)}, "five finite points"),
        ({"gt_points": ((float("nan"), 1.0),) * 5}, "five finite points"),
    ],
)
def test_a_bad_field_sets_its_triplet_aside(triplets, one_triplet, tmp_path, changes, reason):
    report = write_version([*triplets(4), one_triplet(4, **changes)], tmp_path / "out")
    assert report.triplets == 4
    assert reason in report.set_aside[0].reason


def test_a_repeated_key_is_set_aside(triplets, tmp_path):
    made = triplets(4)
    report = write_version([*made, made[0]], tmp_path / "out")
    assert (report.triplets, len(report.set_aside)) == (4, 1)
    assert "occurs twice" in report.set_aside[0].reason


def test_nothing_to_export_is_an_error_that_names_reasons(triplets, tmp_path):
    with pytest.raises(ShardError, match="no triplet to export"):
        write_version([], tmp_path / "out")
    (only,) = triplets(1)
    only.gt.unlink()
    with pytest.raises(ShardError, match="No such file"):
        write_version([only], tmp_path / "out")
    assert not (tmp_path / "out/latest").exists()


def test_progress_counts_triplets_checked_and_written(triplets, tmp_path):
    seen: list[tuple[str, int, int | None]] = []
    write_version(triplets(6), tmp_path / "out", progress=lambda *step: seen.append(step))
    assert ("checking triplets", 6, 6) in seen
    assert seen[-1] == ("writing shards", 6, 6)


def test_options_out_of_range_are_refused(triplets, tmp_path):
    made = triplets(1)
    with pytest.raises(ValueError, match="cannot allow everything"):
        write_version(made, tmp_path / "out", allow=["everything"])
    with pytest.raises(ValueError, match="at least one sample"):
        write_version(made, tmp_path / "out", max_samples_per_shard=0)


def test_the_card_says_what_the_version_holds(triplets, tmp_path):
    write_version(triplets(10), tmp_path / "out", agreement={"mouth": 0.971, "eyes": 0.69})
    card = (tmp_path / "out/v001/README.md").read_text()
    _, front, body = card.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "cc0-1.0"
    assert matter["size_categories"] == ["n<1K"]
    assert {"split": "train", "path": "train/*.tar"} in matter["configs"][0]["data_files"]
    assert "| triplets | 6 | 2 | 2 | 10 |" in body
    assert "| identities | 3 | 1 | 1 | 5 |" in body
    assert "| glasses and patterns | 0 | 0 | 2 | 2 |" in body
    assert "| béa | 3 | 1 | 1 | 5 |" in body
    assert "| mouth | 0.97 |" in body
    assert "![mouth](card/mouth.jpg)" in body


def test_an_unknown_or_mixed_licence_is_named_and_text_stays_in_its_cell(
    triplets, one_triplet, tmp_path
):
    odd = one_triplet(5, licence="Ask | me\n# first", conflicts=(Conflict.MOUTH,))
    write_version([*triplets(5), odd], tmp_path / "out")
    card = (tmp_path / "out/v001/README.md").read_text()
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["license"] == "other"
    assert matter["license_name"] == "Ask | me\n# first, CC0-1.0"
    assert "| Ask \\| me # first | 1 | 0 | 0 | 1 |" in card


def test_a_set_without_conflicts_has_a_card_with_a_picture(one_triplet, tmp_path):
    write_version([one_triplet(2)], tmp_path / "out")
    assert (tmp_path / "out/v001/card/consistent.jpg").stat().st_size > 1000

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset

from dataset_engine.shards import (
    RefSelShards,
    SetAside,
    ShardError,
    UnsafeMemberError,
    read_triplets,
    verify,
    write_version,
)
from dataset_engine.taxonomy import Split


@pytest.fixture
def made(triplets):
    return triplets(10)


@pytest.fixture
def out(made, tmp_path):
    write_version(made, tmp_path / "out", max_samples_per_shard=4)
    return tmp_path / "out"


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def flip(path: Path, at: int) -> None:
    with writable(path).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_the_same_samples(out):
    shards = RefSelShards(out, "train")
    paths = [str(path) for path in sorted((out / "v001/train").glob("*.tar"))]
    dataset = webdataset.WebDataset(paths, shardshuffle=False).decode("rgb8")
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == [shards.key(n) for n in range(len(shards))]
    for number, sample in enumerate(samples):
        ours = shards[number]
        # Two JPEG decoders may round differently.
        assert np.abs(sample["gt.jpg"].astype(int) - ours.gt).max() <= 3
        assert np.array_equal(sample["mask.png"][:, :, 0] > 127, ours.mask)
        assert np.array_equal(sample["ref.region.png"][:, :, 0] > 127, ours.ref_region)
        assert sample["json"]["identity"] == ours.identity
    # It leaves its tars to the garbage collector, whose warning belongs to this test.
    del dataset
    gc.collect()


@pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="datasets is not installed")
@pytest.mark.filterwarnings("default")
def test_datasets_reads_the_same_samples(out, tmp_path):
    import datasets

    files = {str(split): str(out / "v001" / split / "*.tar") for split in (Split.TRAIN, Split.TEST)}
    loaded = datasets.load_dataset(
        "webdataset", data_files=files, cache_dir=str(tmp_path / "cache")
    )
    shards = RefSelShards(out, "train")
    assert loaded["train"]["__key__"] == [shards.key(n) for n in range(len(shards))]
    first = loaded["train"][0]
    assert np.abs(np.asarray(first["gt.jpg"]).astype(int) - shards[0].gt).max() <= 3
    assert np.array_equal(np.asarray(first["mask.png"].convert("L")) > 127, shards[0].mask)
    assert first["json"]["identity"] == shards[0].identity


def test_a_sound_version_verifies(out):
    seen = []
    report = verify(out, decode=True, progress=lambda *step: seen.append(step))
    assert report.sound
    assert (report.version, report.samples) == ("v001", 10)
    assert report.size == sum(path.stat().st_size for path in out.glob("v001/*/*.tar"))
    assert seen[-1] == ("verifying shards", report.shards, report.shards)


def test_every_single_byte_of_a_shard_is_checked(out):
    path = out / "v001/test/refsel-hq-000000.tar"
    sound = path.read_bytes()
    places = [*range(0, 512, 37), *range(600, len(sound), len(sound) // 40), len(sound) - 1]
    for at in places:
        flip(path, at)
        problems = verify(out).problems
        assert [problem.path for problem in problems] == [path], at
        path.write_bytes(sound)
    assert verify(out).sound


def test_verify_names_member_sample_and_shard(out):
    index = json.loads((out / "v001/index.json").read_bytes())
    shard = next(shard for shard in index["shards"] if shard["split"] == "train")
    sample = shard["samples"][1]
    offset, size, _ = sample["members"]["mask.png"]
    path = out / "v001" / shard["path"]
    flip(path, offset + size // 2)
    (problem,) = verify(out).problems
    assert (problem.path, problem.key, problem.member) == (path, sample["key"], "mask.png")
    assert str(problem) == (
        f"{path}: sample {sample['key']}: mask.png: its SHA-256 is not the one in the index"
    )


def test_verify_finds_what_is_missing_cut_off_changed_or_too_much(out):
    train = out / "v001/train/refsel-hq-000000.tar"
    os.truncate(writable(train), train.stat().st_size // 2)
    (out / "v001/validation/refsel-hq-000000.tar").unlink()
    with writable(out / "v001/test/refsel-hq-000000.tar").open("ab") as file:
        file.write(b"more")
    (out / "v001/test/refsel-hq-000009.tar").write_bytes(b"")
    (out / "v001/README.md").write_text("other words")
    (out / "v001/card/mouth.jpg").unlink()
    causes = "\n".join(str(problem) for problem in verify(out).problems)
    assert "train/refsel-hq-000000.tar: sample" in causes
    assert "validation/refsel-hq-000000.tar: it cannot be read" in causes
    assert "test/refsel-hq-000000.tar: it has" in causes
    assert "test/refsel-hq-000009.tar: it is not in the index" in causes
    assert "README.md: its SHA-256" in causes
    assert "mouth.jpg: it is missing" in causes


def test_verify_knows_its_parent(made, out, one_triplet):
    write_version([*made, one_triplet(11)], out, max_samples_per_shard=4)
    assert verify(out).sound
    manifest = out / "v001/manifest.json"
    manifest.write_text(manifest.read_text().replace('"set_aside": 0', '"set_aside": 1'))
    (problem,) = verify(out).problems
    assert "not the parent that v002 was made from" in problem.cause


def test_decoding_finds_an_image_that_was_bad_from_the_start(made, tmp_path):
    jpeg = bytearray(made[0].gt.read_bytes())
    quantisation = jpeg.index(b"\xff\xdb")
    jpeg[quantisation + 1] = 0xFE  # a comment now, so that no quantisation table is left
    made[0].gt.write_bytes(bytes(jpeg))
    write_version(made, tmp_path / "out")
    assert verify(tmp_path / "out").sound
    (problem,) = verify(tmp_path / "out", decode=True).problems
    assert (problem.key, problem.member) == (made[0].key, "gt.jpg")


def test_a_published_set_comes_back_whole(made, out, tmp_path):
    aside: list[SetAside] = []
    back = list(read_triplets(out, tmp_path / "in", set_aside=aside.append))
    assert aside == []
    by_key = {triplet.key: triplet for triplet in made}
    assert sorted(t.key for t in back) == sorted(by_key)
    for triplet in back:
        original = by_key[triplet.key]
        for mine, theirs in zip(triplet.files, original.files, strict=True):
            assert mine.parent == tmp_path / "in"
            assert mine.read_bytes() == theirs.read_bytes()
        files = {name: getattr(original, name) for name in ("gt", "ref", "mask")}
        regions = {"gt_region": original.gt_region, "ref_region": original.ref_region}
        assert replace(triplet, **files, **regions) == original
    report = write_version(back, tmp_path / "again", max_samples_per_shard=4)
    assert (report.folder / "index.json").read_bytes() == (out / "v001/index.json").read_bytes()


def rewrite(path: Path, change) -> None:
    """Write a shard anew with `change(member, data)` giving what stands for each member."""
    with tarfile.open(path) as tar:
        parts = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(writable(path), "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in parts:
            for new, content in change(member, data):
                new.size = len(content)
                tar.addfile(new, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../escaped.gt.jpg", tarfile.REGTYPE),
        ("/tmp/escaped.gt.jpg", tarfile.REGTYPE),
        ("pair-00004.gt.jpg", tarfile.SYMTYPE),
        ("pair-00004.gt.jpg", tarfile.LNKTYPE),
        ("pair-00004", tarfile.DIRTYPE),
        ("pair-00004.exe", tarfile.REGTYPE),
    ],
)
def test_a_member_that_is_not_a_triplets_file_is_refused(out, tmp_path, name, kind):
    def change(member: tarfile.TarInfo, data: bytes):
        if member.name == "pair-00004.gt.jpg":
            member.name, member.type, member.linkname = name, kind, "/etc/passwd"
            yield member, b"" if kind != tarfile.REGTYPE else data
        else:
            yield member, data

    rewrite(out / "v001/test/refsel-hq-000000.tar", change)
    with pytest.raises(UnsafeMemberError, match=r"not a plain file of a triplet.*do not import"):
        list(read_triplets(out, tmp_path / "in", set_aside=lambda _: None))
    assert not (tmp_path / "escaped.gt.jpg").exists()
    written = {path.name for path in (tmp_path / "in").iterdir()}
    assert not any("escaped" in name or "pair-00004" in name for name in written)


def test_damaged_and_missing_samples_are_set_aside_on_import(out, tmp_path):
    path = out / "v001/train/refsel-hq-000000.tar"

    def change(member: tarfile.TarInfo, data: bytes):
        if member.name.startswith("pair-00000."):
            return
        if member.name == "pair-00001.mask.png":
            data = data[:-1] + b"!"
        yield member, data

    rewrite(path, change)
    aside: list[SetAside] = []
    back = list(read_triplets(out, tmp_path / "in", set_aside=aside.append))
    assert len(back) == 8
    reasons = {bad.key: bad.reason for bad in aside}
    assert "SHA-256 is not the one in the index" in reasons["pair-00001"]
    assert "does not hold it any more" in reasons["pair-00000"]


def test_a_member_that_claims_too_much_is_refused_before_it_is_read(out, tmp_path):
    path = out / "v001/test/refsel-hq-000000.tar"
    data = bytearray(path.read_bytes())
    header = tarfile.TarInfo("pair-00004.gt.jpg")
    header.size = 7 * 2**30
    data[:512] = header.tobuf(tarfile.USTAR_FORMAT)
    writable(path).write_bytes(data)
    with pytest.raises(UnsafeMemberError, match="claims 7516192768 bytes"):
        list(read_triplets(out, tmp_path / "in", set_aside=lambda _: None))


def test_a_shard_that_is_no_tar_is_named(out, tmp_path):
    path = writable(out / "v001/test/refsel-hq-000000.tar")
    path.write_bytes(b"not a tar" * 1000)
    with pytest.raises(ShardError, match=r"refsel-hq-000000\.tar.*engine verify"):
        list(read_triplets(out, tmp_path / "in", set_aside=lambda _: None))


def test_gray_masks_of_eight_bits_are_read_like_those_of_one(one_triplet, tmp_path):
    triplet = one_triplet(0)
    gray = cv2.imread(str(triplet.mask), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(triplet.mask), gray)
    write_version([triplet], tmp_path / "out")
    assert np.array_equal(RefSelShards(tmp_path / "out", "train")[0].mask, gray > 0)

from __future__ import annotations

import json
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from dataset_engine.shards import (
    CorruptSampleError,
    RefSelShards,
    ResumableSampler,
    ShardError,
    collate,
    epoch_order,
    write_version,
)
from dataset_engine.shards import reader as reader_module
from dataset_engine.shards.index import has_versions
from dataset_engine.taxonomy import Conflict, Split


@pytest.fixture
def made(triplets):
    return triplets(15)


@pytest.fixture
def out(made, tmp_path):
    write_version(made, tmp_path / "out", max_samples_per_shard=4)
    return tmp_path / "out"


def test_samples_are_the_decoded_files_with_their_words(made, out):
    shards = RefSelShards(out, "train")
    train = sorted((t for t in made if t.split is Split.TRAIN), key=lambda t: t.key)
    assert len(shards) == len(train)
    for number, triplet in enumerate(train):
        sample = shards[number]
        gt = cv2.cvtColor(cv2.imread(str(triplet.gt)), cv2.COLOR_BGR2RGB)
        ref = cv2.cvtColor(cv2.imread(str(triplet.ref)), cv2.COLOR_BGR2RGB)
        assert np.array_equal(sample.gt, gt)
        assert np.array_equal(sample.reference, ref)
        for name, path in (("mask", triplet.mask), ("ref_region", triplet.ref_region)):
            expected = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
            assert np.array_equal(getattr(sample, name), expected)
        assert sample.gt.dtype == np.uint8
        assert sample.mask.dtype == np.bool_
        assert sample.gt_region.shape == (512, 512)
        words = (triplet.key, triplet.identity, triplet.conflicts)
        assert (sample.key, sample.identity, sample.conflicts) == words
        assert (shards.key(number), shards.identity(number)) == words[:2]
    assert shards[-1].key == train[-1].key
    with pytest.raises(IndexError):
        shards[len(train)]


def test_raw_gives_the_stored_bytes(made, out):
    raw = RefSelShards(out, "test").raw(0)
    triplet = next(t for t in made if t.split is Split.TEST)
    assert bytes(raw["gt.jpg"]) == triplet.gt.read_bytes()
    assert bytes(raw["mask.png"]) == triplet.mask.read_bytes()
    assert json.loads(bytes(raw["json"]))["key"] == triplet.key


def test_the_location_is_the_folder_or_one_of_its_versions(made, out, one_triplet, tmp_path):
    write_version([*made, one_triplet(20)], out, max_samples_per_shard=4)
    assert RefSelShards(out, "train").version == "v002"
    assert RefSelShards(str(out / "v001"), Split.TRAIN).version == "v001"
    assert len(RefSelShards(out, "train")) == len(RefSelShards(out / "v001", "train")) + 1
    with pytest.raises(ShardError, match="it is no exported data set"):
        RefSelShards(tmp_path, "train")
    (out / "latest").write_text("v009\n")
    with pytest.raises(ShardError, match=r"names 'v009'.*Write one of v001, v002"):
        RefSelShards(out, "train")
    with pytest.raises(ValueError, match="dev"):
        RefSelShards(out / "v001", "dev")


def test_an_export_is_known_by_its_versions_where_the_pointer_is_lost(out, tmp_path):
    assert has_versions(out)
    assert has_versions(out / "v001")
    (out / "latest").unlink()
    assert has_versions(out)
    assert not has_versions(tmp_path)
    (tmp_path / "v7").mkdir()
    assert not has_versions(tmp_path)


def test_a_split_without_samples_is_empty(one_triplet, tmp_path):
    write_version([one_triplet(0)], tmp_path / "out")
    empty = RefSelShards(tmp_path / "out", "test")
    assert len(empty) == 0
    with pytest.raises(IndexError):
        empty[0]


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_many_workers_read_what_one_process_reads(out, start):
    shards = RefSelShards(out, "train", verify=True)
    shards.raw(0)  # the parent has a file open when the workers start
    sampler = ResumableSampler(len(shards), seed=3)
    loader = DataLoader(
        shards,
        batch_size=2,
        sampler=sampler,
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context=start,
    )
    batches = list(loader)
    keys = [key for batch in batches for key in batch["key"]]
    assert keys == [shards.key(n) for n in epoch_order(len(shards), 3, 0).tolist()]
    first = shards[int(epoch_order(len(shards), 3, 0)[0])]
    assert np.array_equal(batches[0]["gt"][0], first.gt)
    assert batches[0]["mask"].shape == (2, 512, 512)
    assert batches[0]["conflicts"][0] == first.conflicts


def test_threads_share_a_reader_with_few_open_files(out, monkeypatch):
    monkeypatch.setattr(reader_module, "_OPEN_SHARDS", 1)
    shards = RefSelShards(out, "train", verify=True)
    descriptors = Path("/proc/self/fd")
    before = sum(1 for _ in descriptors.iterdir())
    wrong: list[Exception] = []

    def read() -> None:
        try:
            for number in range(300):
                shards.raw(number * 7 % len(shards))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(1 for _ in descriptors.iterdir()) <= before + 1 + len(threads)


def test_a_pickled_reader_opens_the_shards_for_itself(out):
    shards = RefSelShards(out, "train")
    shards.raw(0)
    again = pickle.loads(pickle.dumps(shards))  # noqa: S301 - what a spawned worker does
    assert again[0].key == shards[0].key


@pytest.mark.parametrize(
    ("member", "at", "cause"),
    [
        ("mask.png", 0.5, "mask.png: a damaged PNG"),
        ("gt.jpg", 0, "gt.jpg: not a JPEG"),
        ("ref.jpg", 1, "ref.jpg: a truncated JPEG"),
    ],
)
def test_a_damaged_image_names_shard_and_sample(out, damage, member, at, cause):
    path = damage(out, "pair-00001", member, at)
    shards = RefSelShards(out, "train")
    keys = [shards.key(number) for number in range(len(shards))]
    with pytest.raises(CorruptSampleError, match=cause) as caught:
        shards[keys.index("pair-00001")]
    assert (caught.value.shard, caught.value.key) == (path, "pair-00001")
    assert str(path) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - what a worker does
    assert str(again) == str(caught.value)


def test_damage_that_still_decodes_is_found_by_its_digest(out, damage):
    damage(out, "pair-00001", "gt.jpg")
    shards = RefSelShards(out, "train", verify=True)
    with pytest.raises(CorruptSampleError, match=r"gt\.jpg: its SHA-256"):
        shards[1]
    with pytest.raises(CorruptSampleError, match=r"gt\.jpg: its SHA-256"):
        shards.raw(1)


def test_a_damaged_sample_is_skipped_when_asked(out, damage, caplog):
    damage(out, "pair-00001", "mask.png")
    shards = RefSelShards(out, "train", on_error="skip")
    assert shards[1].key == shards.key(2)
    assert shards[1].key == shards.key(2)
    assert shards.skipped == {"pair-00001"}
    assert caplog.text.count("pair-00001") == 1


def test_a_shard_that_is_gone_or_cut_off_is_named(out):
    path = out / "v001/test/refsel-hq-000000.tar"
    path.chmod(0o644)
    os.truncate(path, 3000)
    with pytest.raises(CorruptSampleError, match="cut off"):
        RefSelShards(out, "test")[0]
    path.unlink()
    with pytest.raises(CorruptSampleError, match="No such file"):
        RefSelShards(out, "test")[0]
    with pytest.raises(CorruptSampleError):
        RefSelShards(out, "test", on_error="skip")[0]


def test_an_identity_in_two_splits_stops_the_reader_unless_allowed(made, tmp_path):
    made[5] = replace(made[5], split=Split.TEST)
    write_version(made, tmp_path / "out", allow=["identity-leak"])
    with pytest.raises(ShardError, match="identity person-000 is in train and in test"):
        RefSelShards(tmp_path / "out", "validation")
    assert len(RefSelShards(tmp_path / "out", "validation", allow=["identity-leak"])) == 3


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (b'"train/refsel-hq-000000.tar"', b'"../../../etc/passwd"', "is not where a shard"),
        (b'"gt.jpg":[512,', b'"gt.jpg":[513,', "place cannot be right"),
        (b'"beard"', b'"board"', "'board' is not a valid Conflict"),
        (b'"key":"pair-00000"', b'"key":"pair-0000."', "is not a sample's key"),
        (b'"identity":"person-000"', b'"identity":"person-999"', "SHA-256"),
        (b'"format":1', b'"format":2', "format 2, and this engine reads 1"),
        (b"]}\n]}\n", b"]}\n", "ends too early"),
    ],
)
def test_a_changed_index_is_refused(out, old, new, cause):
    path = out / "v001/index.json"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(ShardError, match=cause):
        RefSelShards(out, "train")


def test_an_epoch_is_a_permutation_fixed_by_seed_and_epoch():
    order = epoch_order(1000, 7, 3)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, epoch_order(1000, 7, 3))
    assert not np.array_equal(order, epoch_order(1000, 7, 4))
    assert not np.array_equal(order, epoch_order(1000, 8, 3))
    # Checkpoints mean these numbers: they may never change.
    assert epoch_order(8, 0, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


def test_a_sampler_goes_on_in_the_middle_of_an_epoch():
    whole = list(ResumableSampler(20, seed=1, epoch=5))
    sampler = ResumableSampler(20, seed=1)
    assert list(sampler) != whole
    sampler.set_epoch(5, start=13)
    assert list(sampler) == whole[13:]
    assert len(sampler) == 7
    assert list(ResumableSampler(20, seed=1, epoch=5, start=20)) == []
    with pytest.raises(ValueError, match="cannot start at 21"):
        sampler.set_epoch(5, start=21)


def test_conflicts_are_read_in_the_order_of_the_taxonomy(one_triplet, tmp_path):
    every = tuple(reversed(Conflict))
    write_version([one_triplet(0, conflicts=every)], tmp_path / "out")
    assert RefSelShards(tmp_path / "out", "train")[0].conflicts == tuple(Conflict)


def test_an_unknown_way_with_errors_is_refused(out):
    with pytest.raises(ValueError, match="ignore"):
        RefSelShards(out, "train", on_error="ignore")

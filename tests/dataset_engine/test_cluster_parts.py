"""Lists, jobs and parts without a cluster, in memory: the same function that Ray's workers call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from sqlalchemy import select

pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")

from dataset_engine.cluster import (
    Job,
    PairListError,
    list_undecided,
    prepare_job,
    propose_part,
    take_parts,
    write_pair_list,
)
from dataset_engine.cluster.locations import written_whole
from dataset_engine.cluster.pair_list import read_pair_list
from dataset_engine.pair_images import PairFiles
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.store import Store
from dataset_engine.store.queries import undecided
from dataset_engine.store.tables import Pair, Proposal
from models.exported import load_fastest
from models.refsel import RefSel, RefSelConfig


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    RefSel(
        RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty folder of fsspec's memory."""
    yield "memory://cluster"
    files = fsspec.filesystem("memory")
    if files.exists("/cluster"):
        files.rm("/cluster", recursive=True)


def make(job: Job, numbers: list[int] | None = None) -> None:
    model = load_fastest(Path(job.model), job.batch_size, on_gpu=False)
    for number in job.missing() if numbers is None else numbers:
        propose_part(job, model, number)


def kept(store: Store) -> dict[str, tuple[str, float]]:
    with store.reading() as session:
        rows = session.execute(select(Pair.key, Proposal).join(Proposal)).all()
    return {key: (one.mask_sha256, one.score) for key, one in rows}


def rows_of(location: str) -> list[dict[str, str]]:
    return list(read_pair_list(location))


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_a_list_comes_back_in_its_order(memory, name):
    pairs = [PairFiles(f"é-{n}", Path(f"/a/{n}.jpg"), f"s3://b/{n}.jpg", "r.png") for n in range(9)]
    assert write_pair_list(iter(pairs), f"{memory}/{name}") == 9
    found = rows_of(f"{memory}/{name}")
    assert [one["key"] for one in found] == [one.key for one in pairs]
    assert found[3] == {
        "key": "é-3",
        "gt": "/a/3.jpg",
        "reference": "s3://b/3.jpg",
        "region": "r.png",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "row 2: not JSON"),
        ("[1]", "row 2: not an object"),
        ('{"key": "a", "gt": "b", "reference": "c"}', "row 2: 'region' is missing"),
        ('{"key": "a", "gt": "", "reference": "c", "region": "d"}', "row 2: 'gt' is missing"),
    ],
)
def test_a_wrong_row_is_named(memory, model_folder, line, message):
    good = json.dumps({"key": "k", "gt": "a", "reference": "b", "region": "c"})
    with fsspec.open(f"{memory}/pairs.jsonl", "w") as file:
        file.write(f"{good}\n{line}\n")
    with pytest.raises(PairListError, match=message):
        prepare_job(f"{memory}/pairs.jsonl", model_folder, "v1", f"{memory}/out")
    assert not fsspec.filesystem("memory").glob("/cluster/out/*")


def test_a_file_that_is_no_parquet_and_a_list_without_pairs_are_refused(memory, model_folder):
    with fsspec.open(f"{memory}/pairs.parquet", "wb") as file:
        file.write(b"no parquet, though long enough to be one")
    with pytest.raises(PairListError, match="is no Parquet file"):
        prepare_job(f"{memory}/pairs.parquet", model_folder, "v1", f"{memory}/out")
    write_pair_list([], f"{memory}/none.jsonl")
    with pytest.raises(PairListError, match="has no pairs"):
        prepare_job(f"{memory}/none.jsonl", model_folder, "v1", f"{memory}/out")


def test_parts_taken_into_the_store_are_what_a_run_on_one_machine_makes(
    store, fill, model_folder, memory
):
    fill(identities=3, images=3)
    listed = write_pair_list(list_undecided(store, "v1"), f"{memory}/pairs.parquet")
    assert listed == 18
    job = prepare_job(
        f"{memory}/pairs.parquet", model_folder, "v1", f"{memory}/out", pairs_a_part=4
    )
    assert (job.parts, job.pairs, job.missing()) == (5, 18, [0, 1, 2, 3, 4])
    make(job, [3, 0])
    assert job.missing() == [1, 2, 4]
    early = take_parts(store, job, 1)
    assert (early.proposed, early.missing_parts) == (8, 3)
    make(job)
    late = take_parts(store, job, 1)
    assert (late.proposed, late.known, late.missing_parts) == (10, 8, 0)
    again = take_parts(store, job, 1)
    assert (again.proposed, again.known) == (0, 18)
    assert propose_undecided(store, model_folder, "v1", 1).proposed == 0
    assert propose_undecided(store, model_folder, "here", 1).proposed == 18
    with store.reading() as session:
        rows = session.execute(select(Proposal).order_by(Proposal.pair_id)).scalars().all()
    versions = {"v1": {}, "here": {}}
    for row in rows:
        versions[row.model_version][row.pair_id] = (row.mask_sha256, row.score)
    assert len(versions["v1"]) == 18
    assert versions["v1"] == versions["here"]


def test_pairs_that_cannot_be_used_are_set_aside_with_their_reason(
    store, fill, model_folder, memory, tmp_path
):
    fill(identities=1, images=3)
    pairs = list(list_undecided(store, "v1"))
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8 torn")
    pairs[1] = PairFiles(pairs[1].key, torn, pairs[1].reference, pairs[1].region)
    pairs[2] = PairFiles("of-another-store", pairs[2].gt, pairs[2].reference, pairs[2].region)
    write_pair_list(pairs, f"{memory}/pairs.jsonl")
    job = prepare_job(f"{memory}/pairs.jsonl", model_folder, "v1", f"{memory}/out")
    counts = propose_part(job, RefSel.from_pretrained(model_folder), 0)
    assert (counts.proposed, counts.set_aside) == (5, 1)
    report = take_parts(store, job, 1)
    assert (report.proposed, report.set_aside.count) == (4, 2)
    assert "torn.jpg is no image" in report.set_aside.reasons[pairs[1].key]
    assert "not in this store" in report.set_aside.reasons["of-another-store"]


def test_a_broken_part_is_named_and_the_others_are_taken(store, fill, model_folder, memory):
    fill(identities=2, images=2)
    write_pair_list(list_undecided(store, "v1"), f"{memory}/pairs.jsonl")
    job = prepare_job(f"{memory}/pairs.jsonl", model_folder, "v1", f"{memory}/out", pairs_a_part=2)
    make(job)
    with fsspec.open(job.part(0), "wb") as file:
        file.write(b"PAR1 and then nothing of use")
    report = take_parts(store, job, 1)
    assert report.proposed == 2
    (broken,) = report.broken_parts
    assert job.part_name(0) in broken
    assert "run the cluster again" in broken


def test_parts_have_the_same_bytes_whoever_makes_them_and_again(
    store, fill, model_folder, tmp_path
):
    fill(identities=2, images=3)
    write_pair_list(list_undecided(store, "v1"), f"{tmp_path}/pairs.jsonl")
    found = []
    for out in ("one", "two"):
        job = prepare_job(
            f"{tmp_path}/pairs.jsonl",
            model_folder,
            "v1",
            f"file://{tmp_path}/{out}",
            pairs_a_part=5,
        )
        make(job, [2, 1, 0] if out == "one" else [0, 1, 2])
        folder = tmp_path / out
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_another_model_list_or_cut_is_another_job(memory, model_folder, tmp_path, store, fill):
    fill(identities=2, images=2)
    pairs = f"{memory}/pairs.jsonl"
    write_pair_list(list_undecided(store, "v1"), pairs)
    other = tmp_path / "other"
    RefSel(RefSel.from_pretrained(model_folder).config).save_pretrained(other)
    names = [
        prepare_job(pairs, model_folder, "v1", f"{memory}/out").name,
        prepare_job(pairs, other, "v1", f"{memory}/out").name,
        prepare_job(pairs, model_folder, "v2", f"{memory}/out").name,
        prepare_job(pairs, model_folder, "v1", f"{memory}/out", batch_size=2).name,
        prepare_job(pairs, model_folder, "v1", f"{memory}/out", pairs_a_part=2).name,
    ]
    write_pair_list(list(list_undecided(store, "v1"))[1:], pairs)
    names.append(prepare_job(pairs, model_folder, "v1", f"{memory}/out").name)
    assert len(set(names)) == 6


def test_a_list_may_point_to_where_the_files_were_copied(store, fill):
    fill(identities=1, images=2)
    pair = next(undecided(store))
    listed = next(list_undecided(store, "v1", files_at="s3://bucket/home/"))
    assert listed.gt == f"s3://bucket/home/images/aligned/{pair.gt.sha256[:2]}/{pair.gt.sha256}.jpg"
    assert str(listed.region).startswith("s3://bucket/home/masks/")


@pytest.mark.parametrize("scheme", ["memory://cluster", "file://"])
def test_a_file_whose_writing_fails_is_not_there(memory, tmp_path, scheme):
    folder = scheme if scheme.startswith("memory") else f"file://{tmp_path}"

    def fail() -> None:
        with written_whole(f"{folder}/deep/file") as file:
            file.write(b"half")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    files, path = fsspec.core.url_to_fs(f"{folder}/deep")
    assert files.ls(path) == []
    with written_whole(f"{folder}/deep/file") as file:
        file.write(b"whole")
    assert files.cat_file(f"{path}/file") == b"whole"
    assert len(files.ls(path)) == 1

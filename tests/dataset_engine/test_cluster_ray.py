"""Proposals on a real Ray cluster of two workers on this machine."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import select

from dataset_engine.proposal_run import propose_undecided
from dataset_engine.store.tables import Proposal
from models.refsel import RefSel, RefSelConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# what Ray and its own dependencies warn of, and leave open, is theirs
QUIET = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning", "UserWarning")
]
pytestmark += [
    *QUIET,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray puts one in ~/.ray
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
        context = pytest.importorskip("ray.data").DataContext.get_current()
        context.enable_progress_bars = False
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 1024 * 1024,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


def test_two_workers_make_what_one_process_makes_and_only_what_is_missing(
    cluster, store, fill, tmp_path: Path
):
    from dataset_engine.cluster import (
        list_undecided,
        prepare_job,
        run_on_ray,
        take_parts,
        write_pair_list,
    )

    torch.manual_seed(0)
    model = tmp_path / "model"
    RefSel(
        RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)
    ).save_pretrained(model)
    fill(identities=4, images=3)
    pairs = f"file://{tmp_path}/pairs.parquet"
    assert write_pair_list(list_undecided(store, "far"), pairs) == 24
    job = prepare_job(pairs, model, "far", f"file://{tmp_path}/out", pairs_a_part=4)
    told: list[int] = []
    report = run_on_ray(job, workers=2, progress=lambda done, _: told.append(done))
    assert (report.parts, report.skipped) == (6, 0)
    assert (report.proposed, report.set_aside) == (24, 0)
    assert told[-1] == 24
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(files) == 7

    again = run_on_ray(job, workers=2)
    assert (again.parts, again.skipped) == (0, 6)
    for number in (1, 4):
        (tmp_path / "out" / job.part_name(number)).unlink()
    repaired = run_on_ray(job, workers=2)
    assert (repaired.parts, repaired.skipped, repaired.proposed) == (2, 4, 8)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files

    assert take_parts(store, job, 1).proposed == 24
    torch.set_num_threads(1)  # as many as a worker has
    assert propose_undecided(store, model, "near", 1).proposed == 24
    with store.reading() as session:
        rows = session.scalars(select(Proposal)).all()
    found = {
        version: {r.pair_id: (r.mask_sha256, r.score) for r in rows if r.model_version == version}
        for version in ("far", "near")
    }
    assert len(found["far"]) == 24
    assert found["far"] == found["near"]

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from sqlalchemy import select

from dataset_engine import proposal_run, set_aside
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.tables import Image, Pair, Proposal
from models.refsel import CheckpointError, RefSel, RefSelConfig

KILLS = int(os.environ.get("REFSTAR_KILLS", "3"))

RUN = """
import sys
from pathlib import Path
from dataset_engine import proposal_run
from dataset_engine.settings import Settings
from dataset_engine.store import Store
proposal_run.STORE_EVERY = 4
with Store(Settings(home=Path(sys.argv[1]))) as store:
    print("ready", flush=True)
    proposal_run.propose_undecided(store, Path(sys.argv[2]), "unet-r1", 1)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    RefSel(
        RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)
    ).save_pretrained(folder)
    return folder


def kept(store: Store) -> dict[str, tuple[str, float, str, int]]:
    """Mask hash, score, version and round of every pair's proposal; its mask must be there."""
    with store.reading() as session:
        rows = session.execute(select(Pair.key, Proposal).join(Proposal)).all()
    for _, one in rows:
        assert store.mask(one.mask_sha256).shape == (512, 512)
    assert len({key for key, _ in rows}) == len(rows)
    return {key: (p.mask_sha256, p.score, p.model_version, p.round) for key, p in rows}


def test_every_undecided_pair_gets_one_proposal_and_a_second_run_has_nothing_to_do(
    store, fill, model
):
    fill(identities=3, images=3)
    told: list[tuple[int, int | None]] = []
    report = propose_undecided(
        store, model, "unet-r1", 1, progress=lambda done, total: told.append((done, total))
    )
    assert (report.proposed, report.set_aside.count) == (18, 0)
    assert told[0] == (0, 18)
    assert told[-1] == (18, 18)
    before = kept(store)
    assert len(before) == 18
    assert {one[2:] for one in before.values()} == {("unet-r1", 1)}
    assert propose_undecided(store, model / "not-needed", "unet-r1", 1).proposed == 0
    assert kept(store) == before
    with pytest.raises(CheckpointError, match="is missing"):
        propose_undecided(store, model / "needed", "unet-r2", 2)


def test_pairs_that_cannot_be_read_are_counted_named_up_to_a_limit_and_tried_again(
    store, fill, model, monkeypatch
):
    fill(identities=2, images=3)
    with store.reading() as session:
        broken = session.scalars(select(Image).order_by(Image.id)).first()
    path = store.images.path(broken.sha256)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(set_aside, "NAMED", 3)
    report = propose_undecided(store, model, "unet-r1", 1)
    assert (report.proposed, report.set_aside.count) == (8, 4)
    assert len(report.set_aside.reasons) == 3
    assert all(str(path) in reason for reason in report.set_aside.reasons.values())
    path.write_bytes(whole)
    again = propose_undecided(store, model, "unet-r1", 1)
    assert (again.proposed, again.set_aside.count) == (4, 0)


def test_a_run_that_failed_keeps_what_was_stored(store, fill, model, monkeypatch):
    fill(identities=3, images=3)
    monkeypatch.setattr(proposal_run, "STORE_EVERY", 4)
    real, calls = proposal_run.add_proposals, []

    def full_disk(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(proposal_run, "add_proposals", full_disk)
    with pytest.raises(OSError, match="No space left"):
        propose_undecided(store, model, "unet-r1", 1)
    assert len(kept(store)) == 8
    monkeypatch.setattr(proposal_run, "add_proposals", real)
    assert propose_undecided(store, model, "unet-r1", 1).proposed == 10


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bytes(fill, store, model, tmp_path):
    fill(identities=5, images=3)
    home = store.home
    store.close()
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(home, undisturbed)
    process = start(undisturbed, model)
    began = time.perf_counter()
    assert process.wait() == 0
    process.stdout.close()
    whole = time.perf_counter() - began
    with Store(Settings(home=undisturbed)) as done:
        expected = kept(done)
    assert len(expected) == 30
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    for number in range(KILLS):
        again = tmp_path / f"killed-{number}"
        shutil.copytree(home, again)
        moment = moments.uniform(0, whole)
        process = start(again, model)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Store(Settings(home=again)) as resumed:
            left = kept(resumed)
            assert left.items() <= expected.items()
            report = propose_undecided(resumed, model, "unet-r1", 1)
            assert report.proposed == len(expected) - len(left)
            where = f"seed {seed}, kill {number} after {moment:.3f} s of {whole:.3f} s"
            assert kept(resumed) == expected, where
        shutil.rmtree(again)


def start(home: Path, model: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(home), str(model)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process

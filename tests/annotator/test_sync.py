"""A sync brings the store to the state of the server, whatever webhooks were lost or repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator.intake import project_row, take_annotation, take_deletion
from annotator.results import review_result
from annotator.sync import MassDeletionError, sync
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.reviews import Source
from dataset_engine.store.tables import AnnotationTask, Image, Pair, PairState
from dataset_engine.taxonomy import Conflict, Status


@pytest.fixture
def project_id(store: Store, fill: Callable[..., None]) -> int:
    """A project in which pair N is task 10 + N."""
    fill(identities=3)
    row = project_row(store, "home", 1)
    with store.writing() as session:
        for pair_id in range(1, 7):
            session.add(AnnotationTask(project_id=row, task=10 + pair_id, pair_id=pair_id))
    return row


def annotation(
    store: Store, number: int, pair_id: int, verdict: Any = "accept", minute: int = 0
) -> dict[str, Any]:
    with store.reading() as session:
        pair = session.get_one(Pair, pair_id)
        mask = store.mask(session.get_one(Image, pair.ref_id).region_sha256)
    mask[: 200 + 10 * minute] = False
    return {
        "id": number,
        "task": 10 + pair_id,
        "completed_by": 1,
        "was_cancelled": False,
        "updated_at": f"2026-11-24T08:{minute:02d}:00.000001Z",
        "result": review_result(mask, frozenset({Conflict.BEARD}), verdict),
    }


@pytest.fixture
def twin(store: Store, project_id: int, tmp_path: Path) -> Iterator[Store]:
    """Another home with the same pairs and project, in which nothing has happened yet either."""
    home = tmp_path / "twin"
    shutil.copytree(store.home, home)
    with Store(Settings(home=home)) as opened:
        yield opened


def states(store: Store) -> dict[int, tuple[str, str | None, frozenset[Conflict]]]:
    with store.reading() as session:
        return {s.pair_id: (s.status, s.mask_sha256, s.conflicts) for s in session.query(PairState)}


def test_lost_webhooks_are_made_good(store: Store, project_id: int) -> None:
    there = [annotation(store, 1, 1), annotation(store, 2, 2, "reject"), annotation(store, 3, 3)]
    take_annotation(store, project_id, there[0], Source.WEBHOOK)
    report = sync(store, project_id, there)
    assert (report.annotations, report.recorded, report.deleted) == (3, 2, 0)
    assert [states(store)[pair][0] for pair in (1, 2, 3)] == [
        Status.ADJUSTED,
        Status.REJECTED,
        Status.ADJUSTED,
    ]


def test_a_second_sync_finds_nothing(store: Store, project_id: int) -> None:
    there = [annotation(store, 1, 1), annotation(store, 2, 2)]
    sync(store, project_id, there)
    before = states(store)
    report = sync(store, project_id, there)
    assert (report.recorded, report.deleted) == (0, 0)
    assert states(store) == before


def test_a_sync_gives_the_state_that_the_webhooks_would_have_given(
    store: Store, twin: Store, project_id: int
) -> None:
    first, changed = annotation(store, 1, 1), annotation(store, 1, 1, minute=3)
    skipped = annotation(store, 2, 2) | {"was_cancelled": True}
    early, gone = annotation(store, 3, 3), annotation(store, 3, 3, minute=2)
    accepted, rejected = annotation(store, 4, 4), annotation(store, 4, 4, "reject", minute=1)
    older, newer = annotation(store, 5, 5, "reject"), annotation(store, 6, 5, minute=4)

    # Updates come late, some come again, and pair 3's first form only after its deletion.
    for body in (gone, changed, first, skipped, newer, changed, rejected, accepted, older, skipped):
        take_annotation(store, project_id, body, Source.WEBHOOK)
    for _ in range(2):
        take_deletion(store, project_id, 3, Source.WEBHOOK)
    for body in (early, gone, rejected):
        take_annotation(store, project_id, body, Source.WEBHOOK)
    sync(twin, project_id, [changed, skipped, rejected, older, newer])

    by_webhooks, by_sync = states(store), states(twin)
    assert by_webhooks.keys() == by_sync.keys() >= set(range(1, 7))
    for pair_id, state in by_sync.items():
        assert by_webhooks[pair_id] == state, f"pair {pair_id}"
    assert [by_sync[pair][0] for pair in range(1, 7)] == [
        Status.ADJUSTED,
        Status.UNLABELLED,
        Status.UNLABELLED,
        Status.REJECTED,
        Status.ADJUSTED,
        Status.UNLABELLED,
    ]
    assert by_sync[1][1] != by_sync[5][1]
    assert by_sync[1][2] == {Conflict.BEARD}


def test_an_update_and_a_deletion_are_seen(store: Store, project_id: int) -> None:
    sync(store, project_id, [annotation(store, 1, 1), annotation(store, 2, 2)])
    report = sync(store, project_id, [annotation(store, 1, 1, "reject", minute=5)])
    assert (report.recorded, report.deleted) == (1, 1)
    assert states(store)[1][0] == Status.REJECTED
    assert states(store)[2][0] == Status.UNLABELLED


def test_a_server_that_breaks_off_deletes_nothing(store: Store, project_id: int) -> None:
    sync(store, project_id, [annotation(store, 1, 1), annotation(store, 2, 2)])

    def broken() -> Iterator[dict[str, Any]]:
        yield annotation(store, 1, 1, "reject", minute=5)
        raise ConnectionError("the server went away")

    with pytest.raises(ConnectionError):
        sync(store, project_id, broken())
    assert states(store)[1][0] == Status.REJECTED
    assert states(store)[2][0] == Status.ADJUSTED


def test_what_cannot_be_used_is_counted_and_the_rest_goes_on(store: Store, project_id: int) -> None:
    foreign = annotation(store, 1, 1) | {"task": 999}
    timeless = annotation(store, 2, 2) | {"updated_at": None}
    undecided = annotation(store, 3, 3)
    undecided["result"] = undecided["result"][:-1]
    report = sync(store, project_id, [foreign, timeless, undecided, annotation(store, 4, 4)])
    assert report.foreign == 1
    assert report.unusable.keys() == {"2", "3"}
    assert "verdict" in report.unusable["3"]
    assert states(store)[4][0] == Status.ADJUSTED


def test_an_annotation_that_lost_its_time_is_not_taken_for_deleted(
    store: Store, project_id: int
) -> None:
    sync(store, project_id, [annotation(store, 1, 1)])
    report = sync(store, project_id, [annotation(store, 1, 1) | {"updated_at": "soon"}])
    assert report.deleted == 0
    assert states(store)[1][0] == Status.ADJUSTED


def test_many_vanished_annotations_are_not_believed_until_a_person_says_so(
    store: Store, fill: Callable[..., None]
) -> None:
    fill(identities=8)
    row = project_row(store, "home", 1)
    with store.writing() as session:
        for pair_id in range(1, 17):
            session.add(AnnotationTask(project_id=row, task=10 + pair_id, pair_id=pair_id))
    sync(store, row, [annotation(store, n, n) for n in range(1, 17)])
    before = states(store)
    with pytest.raises(MassDeletionError, match=r"14 of 16 .*--accept-deletions"):
        sync(store, row, [annotation(store, n, n) for n in (1, 2)])
    assert states(store) == before
    report = sync(store, row, [annotation(store, n, n) for n in (1, 2)], accept_deletions=True)
    assert report.deleted == 14


def test_a_server_set_up_anew_is_another_project(store: Store, project_id: int) -> None:
    sync(store, project_id, [annotation(store, 1, 1), annotation(store, 2, 2)])
    before = states(store)
    anew = project_row(store, "home", 1, datetime(2026, 12, 1, tzinfo=UTC))
    assert anew != project_id
    assert sync(store, anew, []).deleted == 0
    assert states(store) == before


def test_a_damaged_mask_file_does_not_stop_the_rest(store: Store, project_id: int) -> None:
    there = [annotation(store, 1, 1), annotation(store, 3, 3)]
    with store.reading() as session:
        region = session.get_one(Image, session.get_one(Pair, 1).ref_id).region_sha256
    store.masks.path(region).unlink()
    report = sync(store, project_id, there)
    assert "missing" in report.unusable["1"]
    assert states(store)[3][0] == Status.ADJUSTED


def test_an_accepted_proposal_that_keeps_nothing_is_a_decision(
    store: Store, project_id: int
) -> None:
    empty = np.zeros((512, 512), bool)
    add_proposals(store, "unet-r1", 1, [NewProposal(1, empty, 0.5)])
    untouched = annotation(store, 1, 1)
    untouched["result"] = untouched["result"][1:]
    sync(store, project_id, [untouched])
    assert states(store)[1][0] == Status.ACCEPTED

"""A sync brings the store to the state of the server, whatever webhooks were lost or repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from annotator.intake import project_row, take_annotation, take_deletion
from annotator.results import review_result
from annotator.sync import sync
from dataset_engine.store import Store
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


def states(store: Store) -> dict[int, tuple[str, str | None]]:
    with store.reading() as session:
        return {s.pair_id: (s.status, s.mask_sha256) for s in session.query(PairState)}


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
    store: Store, project_id: int
) -> None:
    first, changed = annotation(store, 1, 1), annotation(store, 1, 1, minute=3)
    skipped = annotation(store, 2, 2) | {"was_cancelled": True}
    gone = annotation(store, 3, 3)
    sync(store, project_id, [changed, skipped])
    by_sync = states(store)
    for body in (gone, first, skipped, changed):
        take_annotation(store, project_id, body, Source.WEBHOOK)
    take_deletion(store, project_id, 3, Source.WEBHOOK)
    assert states(store) == by_sync


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

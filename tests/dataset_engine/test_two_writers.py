"""Several processes write at once, as a webhook, a sync and a round do: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.reviews import (
    Decision,
    EventKind,
    Recorded,
    Source,
    rebuild,
    record,
    record_deletion,
)
from dataset_engine.store.tables import AnnotationProject, Event, PairState, Proposal
from dataset_engine.taxonomy import Status

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MASK = np.zeros((512, 512), bool)
MASK[200:300, 200:300] = True
WRITERS = 4


@pytest.fixture
def writers(
    store: Store, settings: Settings, fill: Callable[..., None]
) -> Iterator[tuple[Store, ...]]:
    """Stores of one database, each with connections of its own, as in several processes."""
    fill(identities=2)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=1))
    others = [Store(settings) for _ in range(WRITERS - 1)]
    yield (store, *others)
    for other in others:
        other.close()


def at_once(writers: tuple[Store, ...], *jobs: Callable[[Store], Any]) -> list[Any]:
    """Run each job on a store of its own, all begun at the same moment; their results."""
    barrier = Barrier(len(jobs))

    def run(store: Store, job: Callable[[Store], Any]) -> Any:
        barrier.wait()
        return job(store)

    with ThreadPoolExecutor(len(jobs)) as pool:
        begun = [pool.submit(run, *pair) for pair in zip(writers, jobs, strict=False)]
        return [job.result() for job in begun]


def decision(minute: int = 0, **changes: Any) -> Decision:
    made = Decision(
        pair_id=1,
        project_id=1,
        annotation=7,
        updated_at=NOON + timedelta(minutes=minute),
        kind=EventKind.SUBMITTED,
        source=Source.WEBHOOK,
        actor="label-studio:1",
        accepted=True,
        mask=MASK,
    )
    return replace(made, **changes)


def count(store: Store, table: type[Event] | type[Proposal]) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(table.id))) or 0


def state(store: Store) -> PairState:
    with store.reading() as session:
        return session.get_one(PairState, 1)


def test_one_annotation_that_arrives_several_times_at_once_is_one_event(
    writers: tuple[Store, ...],
) -> None:
    for minute in range(5):
        job = lambda store, minute=minute: record(store, decision(minute))  # noqa: E731
        results: list[Recorded] = at_once(writers, *[job] * WRITERS)
        assert sorted(result.new for result in results) == [False] * (WRITERS - 1) + [True]
        assert {result.status for result in results} == {Status.ADJUSTED}
    assert count(writers[0], Event) == 5


def test_of_decisions_made_at_once_the_newest_counts_whatever_the_order(
    writers: tuple[Store, ...],
) -> None:
    for number in range(5):
        jobs = [
            lambda store, n=n, number=number: record(
                store,
                decision(10 * number + n, annotation=10 * number + n, accepted=n == WRITERS - 1),
            )
            for n in range(WRITERS)
        ]
        at_once(writers, *jobs)
        assert state(writers[0]).status == Status.ADJUSTED
    assert count(writers[0], Event) == 5 * WRITERS
    assert rebuild(writers[0], [1]) == 0


def test_a_deletion_announced_several_times_at_once_is_one_event(
    writers: tuple[Store, ...],
) -> None:
    record(writers[0], decision())
    results = at_once(
        writers, *[lambda store: record_deletion(store, 1, 7, Source.WEBHOOK, "ls")] * WRITERS
    )
    assert sorted(result.new for result in results) == [False] * (WRITERS - 1) + [True]
    assert count(writers[0], Event) == 2
    assert state(writers[0]).status == Status.UNLABELLED


def test_a_change_and_a_deletion_at_once_leave_what_the_events_say(
    writers: tuple[Store, ...],
) -> None:
    for number in range(5):
        before = count(writers[0], Event)
        record(writers[0], decision(annotation=number))
        at_once(
            writers,
            lambda store, number=number: record(store, decision(1, annotation=number)),
            lambda store, number=number: record_deletion(store, 1, number, Source.WEBHOOK, "ls"),
        )
        assert rebuild(writers[0], [1]) == 0
        # whoever came first, the annotation is gone: a change that comes after its deletion is kept, and
        # deleted in its turn
        assert state(writers[0]).status == Status.UNLABELLED
        assert count(writers[0], Event) - before in (3, 4)


def test_proposals_made_twice_at_once_are_kept_once(writers: tuple[Store, ...]) -> None:
    with writers[0].reading() as session:
        ids = session.scalars(select(PairState.pair_id)).all()
    for number in range(3):
        jobs = [
            lambda store, order=order, number=number: add_proposals(
                store, f"unet-r{number}", number, [NewProposal(n, MASK, 0.5) for n in order]
            )
            for order in (ids, ids[::-1], ids, ids[::-1])
        ]
        assert sorted(at_once(writers, *jobs)) == [0] * (WRITERS - 1) + [len(ids)]
    assert count(writers[0], Proposal) == 3 * len(ids)


def test_a_review_and_a_proposal_at_once_both_count(writers: tuple[Store, ...]) -> None:
    for number in range(5):
        at_once(
            writers,
            lambda store, number=number: record(store, decision(number)),
            lambda store, number=number: add_proposals(
                store, f"unet-r{number}", number, [NewProposal(1, MASK, 0.5)]
            ),
        )
        kept = state(writers[0])
        assert kept.proposed_version == f"unet-r{number}"
        assert kept.status in (Status.ACCEPTED, Status.ADJUSTED)
        assert rebuild(writers[0], [1]) == 0

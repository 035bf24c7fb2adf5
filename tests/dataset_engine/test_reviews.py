"""Decisions become events once, in any order of arrival, and states follow from events alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import func, select

from dataset_engine.store import Store
from dataset_engine.store.proposals import FACE_REGION, NewProposal, add_proposals
from dataset_engine.store.queries import status_report
from dataset_engine.store.reviews import (
    Decision,
    EventKind,
    Source,
    rebuild,
    record,
    record_deletion,
)
from dataset_engine.store.tables import AnnotationProject, Event, PairState
from dataset_engine.taxonomy import Conflict, Status

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PROPOSED = np.zeros((512, 512), bool)
PROPOSED[200:300, 200:300] = True
PAINTED = PROPOSED.copy()
PAINTED[200:220] = False


@pytest.fixture
def decision(store: Store, fill: Callable[..., None]) -> Decision:
    """An annotation of pair 1, which has a proposal, that keeps the proposal."""
    fill(identities=2)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=1))
    add_proposals(store, "unet-r1", 1, [NewProposal(1, PROPOSED, 0.9)])
    return Decision(
        pair_id=1,
        project_id=1,
        annotation=7,
        updated_at=NOON,
        kind=EventKind.SUBMITTED,
        source=Source.WEBHOOK,
        actor="label-studio:1",
        accepted=True,
        mask=PROPOSED,
        lead_time=12.5,
    )


def state(store: Store, pair_id: int = 1) -> PairState:
    with store.reading() as session:
        return session.get_one(PairState, pair_id)


def count_events(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(Event.id))) or 0


def test_an_untouched_proposal_is_accepted_and_a_painted_one_adjusted(
    store: Store, decision: Decision
) -> None:
    assert record(store, decision).status is Status.ACCEPTED
    later = replace(
        decision,
        mask=PAINTED,
        updated_at=NOON + timedelta(minutes=1),
        conflicts=frozenset({Conflict.MOUTH, Conflict.BEARD}),
    )
    assert record(store, later).status is Status.ADJUSTED
    kept = state(store)
    assert np.array_equal(store.mask(str(kept.mask_sha256)), PAINTED)
    assert kept.conflicts == {Conflict.MOUTH, Conflict.BEARD}


def test_a_verdict_of_reject_rejects(store: Store, decision: Decision) -> None:
    assert record(store, replace(decision, accepted=False)).status is Status.REJECTED


def test_an_event_says_who_what_before_and_after(store: Store, decision: Decision) -> None:
    record(store, replace(decision, mask=PAINTED))
    with store.reading() as session:
        event = session.scalars(select(Event)).one()
    assert event.actor == "label-studio:1"
    assert event.model_version == "unet-r1"
    assert event.lead_time == 12.5
    assert np.array_equal(store.mask(str(event.mask_before)), PROPOSED)
    assert np.array_equal(store.mask(str(event.mask_after)), PAINTED)
    assert event.annotation_updated_at == NOON


def test_the_same_annotation_is_recorded_once_whoever_brings_it(
    store: Store, decision: Decision
) -> None:
    assert record(store, decision).new
    assert not record(store, decision).new
    assert not record(store, replace(decision, source=Source.SYNC)).new
    assert count_events(store) == 1


def test_a_late_webhook_is_kept_but_changes_nothing(store: Store, decision: Decision) -> None:
    newer = replace(decision, mask=PAINTED, updated_at=NOON + timedelta(hours=1))
    record(store, newer)
    late = record(store, replace(decision, accepted=False))
    assert late.new
    assert late.status is Status.ADJUSTED
    assert count_events(store) == 2


def test_deleting_an_annotation_takes_the_state_back_and_keeps_the_mask(
    store: Store, decision: Decision
) -> None:
    record(store, replace(decision, mask=PAINTED))
    painted = state(store).mask_sha256
    gone = record_deletion(store, 1, 7, Source.WEBHOOK, "label-studio")
    assert gone is not None
    assert gone.new
    assert gone.status is Status.PROPOSED
    assert np.array_equal(store.mask(str(painted)), PAINTED)
    again = record_deletion(store, 1, 7, Source.WEBHOOK, "label-studio")
    assert again is not None
    assert not again.new


def test_deleting_an_unknown_annotation_is_no_event(store: Store, decision: Decision) -> None:
    record(store, decision)
    assert record_deletion(store, 1, 99, Source.WEBHOOK, "label-studio") is None
    assert count_events(store) == 1


def test_a_false_deletion_is_taken_back_by_a_sync(store: Store, decision: Decision) -> None:
    record(store, decision)
    record_deletion(store, 1, 7, Source.WEBHOOK, "label-studio")
    assert not record(store, decision).new
    assert state(store).status == Status.PROPOSED
    assert record(store, replace(decision, source=Source.SYNC)).new
    assert state(store).status == Status.ACCEPTED
    assert not record(store, replace(decision, source=Source.SYNC)).new


def test_skips_and_unusable_annotations_decide_nothing(store: Store, decision: Decision) -> None:
    skipped = replace(decision, kind=EventKind.SKIPPED, accepted=None, mask=None)
    assert record(store, skipped).status is Status.PROPOSED
    broken = replace(skipped, annotation=8, kind=EventKind.UNUSABLE, detail="truncated RLE")
    assert record(store, broken).status is Status.PROPOSED
    with store.reading() as session:
        assert status_report(session).unusable == 1


def test_the_newest_of_several_annotators_decides(store: Store, decision: Decision) -> None:
    record(store, replace(decision, updated_at=NOON + timedelta(minutes=5), accepted=False))
    record(store, replace(decision, annotation=8))
    assert state(store).status == Status.REJECTED
    record_deletion(store, 1, 7, Source.SYNC, "label-studio")
    assert state(store).status == Status.ACCEPTED


def test_states_rebuilt_from_events_are_what_was_kept(store: Store, decision: Decision) -> None:
    record(store, decision)
    record(store, replace(decision, annotation=8, mask=PAINTED, updated_at=NOON + timedelta(1)))
    record_deletion(store, 1, 8, Source.SYNC, "label-studio")
    assert rebuild(store, range(1, 5)) == 0
    with store.writing() as session:
        session.get_one(PairState, 1).status = Status.REJECTED
    assert rebuild(store, range(1, 5)) == 1
    assert state(store).status == Status.ACCEPTED


def test_a_second_proposal_of_one_version_is_ignored(store: Store, decision: Decision) -> None:
    again = add_proposals(store, "unet-r1", 1, [NewProposal(1, PAINTED, 0.1)])
    assert again == 0
    assert np.array_equal(store.mask(str(state(store).mask_sha256)), PROPOSED)
    assert decision.pair_id == 1
    assert FACE_REGION != "unet-r1"

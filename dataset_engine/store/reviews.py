"""Recording people's decisions as events, and deriving each pair's current state from them.

An event is recorded once: its key names the annotation and the moment of its last change, so that a
webhook, its repetition, a late delivery and a sync of the same annotation are one event. The state of
a pair is that of its newest live annotation; an annotation's newest event is the one with the latest
``annotation_updated_at``, whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dataset_engine.store.database import Store
from dataset_engine.store.tables import Comparison, Event, GoldAnswer, Pair, PairState, Proposal
from dataset_engine.taxonomy import Conflict, Status


class EventKind(StrEnum):
    """What happened to an annotation."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    UNUSABLE = "unusable"
    DELETED = "deleted"


class Source(StrEnum):
    """How the engine learnt of it."""

    WEBHOOK = "webhook"
    SYNC = "sync"


FROM_ANNOTATORS = tuple(Source)
"""`Event.source` of what was submitted in Label Studio."""


@dataclass(frozen=True)
class Decision:
    """What one annotation said at one moment.

    Attributes:
        pair_id: the pair that the annotation is about.
        project_id: row id of the annotation project.
        annotation: Label Studio's annotation id.
        updated_at: when the annotation was last changed, by Label Studio's clock.
        kind: submitted, skipped or unusable.
        accepted: whether the verdict keeps the mask; None where there is no verdict.
        mask: bool [H, W], inside the face region; None where there is none.
        lead_time: seconds that the person spent.
        detail: for an unusable annotation, why.
        made_at: when the person decided, where the annotation is a copy that was made later.
    """

    pair_id: int
    project_id: int
    annotation: int
    updated_at: datetime
    kind: EventKind
    source: Source
    actor: str
    accepted: bool | None = None
    mask: NDArray[np.bool_] | None = None
    conflicts: frozenset[Conflict] = frozenset()
    lead_time: float | None = None
    detail: str = ""
    made_at: datetime | None = None


@dataclass(frozen=True)
class Recorded:
    """The outcome of recording: the pair, its status now, and whether anything was new."""

    pair_id: int
    new: bool
    status: Status


def record(store: Store, decision: Decision) -> Recorded:
    """Append a decision and bring its pair's state up to date, in one transaction."""
    mask_sha256 = None if decision.mask is None else store.put_mask(decision.mask)
    key = (
        f"{decision.project_id}:{decision.annotation}:{decision.updated_at.isoformat()}"
        f":{'skip' if decision.kind is EventKind.SKIPPED else 'submit'}"
    )
    with store.writing() as session:
        lock(session, decision.pair_id)
        history = _annotation_events(session, decision.project_id, decision.annotation)
        if any(event.key == key for event in history):
            newest = history[-1]
            if decision.source is not Source.SYNC or newest.kind != EventKind.DELETED:
                return Recorded(decision.pair_id, False, _status(session, decision.pair_id))
            # a deletion was announced, but the server still holds the annotation
            key = f"{key}:again:{newest.id}"
        before = session.get(PairState, decision.pair_id)
        status, model_version = _judge(store, session, decision)
        event = Event(
            key=key,
            pair_id=decision.pair_id,
            kind=decision.kind,
            source=decision.source,
            actor=decision.actor,
            project_id=decision.project_id,
            annotation=decision.annotation,
            annotation_updated_at=decision.made_at or decision.updated_at,
            status=status,
            mask_before=before.mask_sha256 if before else None,
            mask_after=mask_sha256,
            conflicts=decision.conflicts,
            model_version=model_version,
            lead_time=decision.lead_time,
            detail=decision.detail,
        )
        session.add(event)
        session.flush()
        if history and history[-1].kind == EventKind.DELETED and decision.source != Source.SYNC:
            # word of an annotation that is gone by now: what it brings is kept, and stays deleted
            _delete(session, event, history[-1].source, history[-1].actor)
        return Recorded(decision.pair_id, True, Status(derive(session, decision.pair_id).status))


def record_deletion(
    store: Store, project_id: int, annotation: int, source: Source, actor: str
) -> Recorded | None:
    """Append the deletion of an annotation; None when the engine never heard of that annotation.

    The masks that the annotation brought stay in the store: only the pair's state goes back.
    """
    with store.writing() as session:
        history = _annotation_events(session, project_id, annotation)
        if not history:
            return None
        lock(session, history[0].pair_id)
        history = _annotation_events(session, project_id, annotation)
        newest = max(history, key=lambda event: (event.annotation_updated_at, event.id))
        if newest.kind == EventKind.DELETED:
            return Recorded(newest.pair_id, False, _status(session, newest.pair_id))
        _delete(session, newest, source, actor)
        return Recorded(newest.pair_id, True, Status(derive(session, newest.pair_id).status))


def _delete(session: Session, event: Event, source: str, actor: str) -> None:
    """Append that the annotation of an event is deleted."""
    session.add(
        Event(
            key=f"{event.project_id}:{event.annotation}:delete:{event.id}",
            pair_id=event.pair_id,
            kind=EventKind.DELETED,
            source=source,
            actor=actor,
            project_id=event.project_id,
            annotation=event.annotation,
            annotation_updated_at=event.annotation_updated_at,
            mask_before=event.mask_after,
        )
    )
    session.flush()


def derive(session: Session, pair_id: int) -> PairState:
    """Derive a pair's state from its events and proposals, and keep it in ``pair_states``."""
    return derive_all(session, [pair_id])[0]


def derive_all(session: Session, pair_ids: Iterable[int]) -> list[PairState]:
    """`derive` for several pairs at once, in the order of their ids."""
    ids = sorted(set(pair_ids))
    kept = lock(session, *ids)
    events: dict[int, list[Event]] = {}
    for event in session.scalars(
        select(Event).where(Event.pair_id.in_(ids)).order_by(Event.annotation_updated_at, Event.id)
    ):
        events.setdefault(event.pair_id, []).append(event)
    newest = (
        select(func.max(Proposal.id)).where(Proposal.pair_id.in_(ids)).group_by(Proposal.pair_id)
    )
    proposals = {
        proposal.pair_id: proposal
        for proposal in session.scalars(select(Proposal).where(Proposal.id.in_(newest)))
    }
    gold = _gold_events(session, events)
    disagreements = _disagreements(session, events)
    states = []
    for pair_id in ids:
        state = kept.get(pair_id)
        if state is None:
            state = PairState(pair_id=pair_id, position=session.get_one(Pair, pair_id).position)
        _settle(
            state,
            events.get(pair_id, []),
            proposals.get(pair_id),
            gold.get(pair_id),
            disagreements,
        )
        session.add(state)
        states.append(state)
    session.flush()
    return states


def standing(events: Iterable[Event]) -> list[Event]:
    """Of each live annotation and click the newest event, if it decides; `events` in order of time."""
    newest: dict[tuple[int | None, int | None], Event] = {}
    for event in events:
        newest[event.project_id, event.annotation] = event
    return [event for event in newest.values() if event.status is not None]


def annotators_answers(decided: Iterable[Event], gold: Event | None) -> list[Event]:
    """What stands of annotators who answered a pair independently: of each the newest, oldest first.

    Args:
        decided: see `standing`.
        gold: the pair's gold answer, whose maker was not tested by it.
    """
    answers: dict[str, Event] = {}
    for event in sorted(decided, key=_when):
        mine = gold is None or event.actor != gold.actor
        if event.source in FROM_ANNOTATORS and mine:
            answers[event.actor] = event
    return sorted(answers.values(), key=lambda event: event.id)


def known_answer(
    events: Iterable[Event], decided: Sequence[Event], gold: int | None
) -> Event | None:
    """The gold answer among a pair's events, as long as its maker stands by an answer to the pair.

    Who takes the gold answer back leaves the pair to whoever answers it: nothing else would decide it.

    Args:
        events: all of the pair.
        decided: see `standing`.
        gold: row id of the gold answer's event, or None.
    """
    known = next((event for event in events if event.id == gold), None)
    if known is None or not any(event.actor == known.actor for event in decided):
        return None
    return known


def only_tests(event: Event, gold: Event) -> bool:
    """Whether an answer to a pair with a gold answer tests its annotator, and so decides nothing."""
    return event.source in FROM_ANNOTATORS and event.actor != gold.actor and event.id > gold.id


def _when(event: Event) -> tuple[datetime, int]:
    return event.annotation_updated_at, event.id


def _settle(
    state: PairState,
    events: Sequence[Event],
    proposal: Proposal | None,
    gold: int | None,
    disagreements: frozenset[tuple[int, int]],
) -> None:
    """Set a state from the pair's events, ordered by time, and its newest proposal.

    Answers to a pair whose gold answer is known test annotators, and change nothing. Of two annotators
    who disagree neither has the last word.
    """
    decided = standing(events)
    known = known_answer(events, decided, gold)
    if known is not None:
        decided = [event for event in decided if not only_tests(event, known)]
    latest = max(decided, key=_when, default=None)
    state.proposal_id = proposal.id if proposal else None
    state.proposed_version = proposal.model_version if proposal else ""
    state.event_id = latest.id if latest else None
    if latest is not None:
        answers = [event.id for event in annotators_answers(decided, None)]
        open_question = tuple(answers) in disagreements and latest.id in answers
        state.status = Status.ADJUDICATE if open_question else str(latest.status)
        state.mask_sha256 = latest.mask_after
        state.conflicts = latest.conflicts
    else:
        state.status = Status.PROPOSED if proposal else Status.UNLABELLED
        state.mask_sha256 = proposal.mask_sha256 if proposal else None
        state.conflicts = frozenset()


def _gold_events(session: Session, pair_ids: Iterable[int]) -> dict[int, int]:
    """The gold answers of pairs, by pair."""
    query = select(GoldAnswer.pair_id, GoldAnswer.event_id)
    return dict(session.execute(query.where(GoldAnswer.pair_id.in_(pair_ids))).all())


def _disagreements(session: Session, pair_ids: Iterable[int]) -> frozenset[tuple[int, int]]:
    """Pairs of answers, the earlier first, of which neither is the last word."""
    query = select(Comparison.other_event_id, Comparison.event_id).where(
        Comparison.pair_id.in_(pair_ids),
        Comparison.gold.is_(False),
        Comparison.agrees.is_(False),
    )
    return frozenset((first, second) for first, second in session.execute(query))


def rebuild(store: Store, pair_ids: Iterable[int]) -> int:
    """Derive the states of these pairs anew; returns how many differed from what was kept."""
    changed = 0
    with store.writing() as session:
        for pair_id in pair_ids:
            before = _snapshot(session.get(PairState, pair_id))
            changed += before != _snapshot(derive(session, pair_id))
    return changed


def lock(session: Session, *pair_ids: int) -> dict[int, PairState]:
    """Let nobody else derive these pairs' states until the transaction ends; gives them by pair.

    SQLite has one writer at a time anyway; on PostgreSQL two transactions could each miss what the
    other adds. Pairs are locked in one order, so that no two writers wait for each other.
    """
    states = select(PairState).where(PairState.pair_id.in_(pair_ids)).order_by(PairState.pair_id)
    again = states.with_for_update().execution_options(populate_existing=True)
    return {state.pair_id: state for state in session.scalars(again)}


def _snapshot(state: PairState | None) -> tuple[Any, ...] | None:
    if state is None:
        return None
    return (
        state.status,
        state.mask_sha256,
        state.conflicts,
        state.event_id,
        state.proposal_id,
        state.position,
        state.proposed_version,
    )


def _annotation_events(session: Session, project_id: int, annotation: int) -> Sequence[Event]:
    return session.scalars(
        select(Event)
        .where(Event.project_id == project_id, Event.annotation == annotation)
        .order_by(Event.id)
    ).all()


def _status(session: Session, pair_id: int) -> Status:
    state = session.get(PairState, pair_id)
    return Status(state.status) if state else Status.UNLABELLED


def _judge(store: Store, session: Session, decision: Decision) -> tuple[Status | None, str | None]:
    """Accepted, adjusted or rejected, and the model version whose proposal was judged.

    Whether a mask was adjusted is read off its pixels, not off what the browser says about it.
    """
    proposals = session.scalars(
        select(Proposal).where(Proposal.pair_id == decision.pair_id).order_by(Proposal.id.desc())
    ).all()
    judged = proposals[0].model_version if proposals else None
    if decision.kind is not EventKind.SUBMITTED or decision.accepted is None:
        return None, judged
    if not decision.accepted or decision.mask is None:
        return Status.REJECTED, judged
    for proposal in proposals:
        if np.array_equal(store.mask(proposal.mask_sha256), decision.mask):
            return Status.ACCEPTED, proposal.model_version
    return Status.ADJUSTED, judged

"""Comparing what annotators answer: with the gold answer, or with another annotator's.

A comparison is kept as pixel counts, so that every figure can be made of it later. Where two annotators
disagree their pair is up for adjudication, until a third person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.progress import Advance, silent
from dataset_engine.store.database import Store
from dataset_engine.store.reviews import (
    annotators_answers,
    derive,
    known_answer,
    lock,
    only_tests,
    standing,
)
from dataset_engine.store.tables import (
    AnnotationTask,
    Comparison,
    Event,
    GoldAnswer,
    Image,
    Pair,
)
from dataset_engine.taxonomy import Status
from models.metrics import Confusion, boundary_f_score

TOO_FEW = 0.005
"""Share of the face region below which a difference is a matter of the brush, whatever kappa says."""


@dataclass(frozen=True)
class _Question:
    """Two answers that are to be compared; the first is the later one."""

    pair_id: int
    first: Event
    second: Event
    gold: bool
    region: str


def compare_answers(store: Store, pair_id: int) -> int:
    """Compare what annotators have answered to a pair, as far as that was not done.

    Returns:
        How many comparisons are new.
    """
    with store.reading() as session:
        questions = _questions(session, pair_id)
    made = [_compared(store, question) for question in questions]
    if not made:
        return 0
    with store.writing() as session:
        lock(session, pair_id)
        known = _known(session, pair_id)
        new = [one for one in made if (one.event_id, one.other_event_id) not in known]
        session.add_all(new)
        session.flush()
        derive(session, pair_id)
    return len(new)


def compare_all(store: Store, progress: Advance = silent) -> int:
    """Make the comparisons that are missing, and judge all of them by the thresholds of today.

    Only pairs that several people are asked about are looked at.

    Returns:
        How many comparisons are new.
    """
    with store.reading() as session:
        asked_twice = select(AnnotationTask.pair_id).where(AnnotationTask.overlap > 1)
        pairs = session.scalars(asked_twice.union(select(GoldAnswer.pair_id))).all()
        judged = session.scalars(select(Comparison.id).order_by(Comparison.id)).all()
    new = 0
    for done, pair_id in enumerate(pairs, start=1):
        new += compare_answers(store, pair_id)
        progress(done, len(pairs))
    for number in judged:
        with store.reading() as session:
            one = session.get(Comparison, number)
        if one is not None and one.agrees != _agrees(store, one):
            _judge_anew(store, number)
    return new


def confusion(one: Comparison) -> Confusion | None:
    """The pixels of a comparison, the later answer as the prediction; None where a pair was rejected."""
    counts = (one.both_keep, one.first_only, one.second_only, one.neither_keeps)
    given = [count for count in counts if count is not None]
    return Confusion(*given) if len(given) == len(counts) else None


def _judge_anew(store: Store, number: int) -> None:
    with store.writing() as session:
        one = session.get(Comparison, number)
        if one is not None:
            lock(session, one.pair_id)
            one.agrees = _agrees(store, one)
            session.flush()
            derive(session, one.pair_id)


def _questions(session: Session, pair_id: int) -> list[_Question]:
    query = select(Event).where(Event.pair_id == pair_id)
    events = session.scalars(query.order_by(Event.annotation_updated_at, Event.id)).all()
    decided = standing(events)
    gold_id = session.scalar(select(GoldAnswer.event_id).where(GoldAnswer.pair_id == pair_id))
    gold = known_answer(events, decided, gold_id)
    answers = annotators_answers(decided, gold)
    asked: Sequence[tuple[Event, Event]] = ()
    if gold is not None:
        asked = [(answer, gold) for answer in answers if only_tests(answer, gold)]
    elif len(answers) == 2:
        asked = [(answers[1], answers[0])]
    if not asked:
        return []
    known = _known(session, pair_id)
    region = session.scalars(
        select(Image.region_sha256).join(Pair, Pair.ref_id == Image.id).where(Pair.id == pair_id)
    ).one()
    return [
        _Question(pair_id, first, second, gold is not None, region)
        for first, second in asked
        if (first.id, second.id) not in known
    ]


def _known(session: Session, pair_id: int) -> set[tuple[int, int]]:
    query = select(Comparison.event_id, Comparison.other_event_id)
    rows = session.execute(query.where(Comparison.pair_id == pair_id))
    return {(first, second) for first, second in rows}


def _compared(store: Store, question: _Question) -> Comparison:
    first, second = question.first, question.second
    one = Comparison(
        pair_id=question.pair_id,
        event_id=first.id,
        other_event_id=second.id,
        gold=question.gold,
        agrees=first.status == second.status == Status.REJECTED,
    )
    kept = [event for event in (first, second) if event.status != Status.REJECTED]
    if len(kept) == 2 and first.mask_after and second.mask_after:
        mask, other = store.mask(first.mask_after), store.mask(second.mask_after)
        region = store.mask(question.region)
        counts = Confusion.count(mask, other, region)
        one.both_keep, one.first_only = counts.kept_consistent, counts.kept_conflict
        one.second_only, one.neither_keeps = counts.dropped_consistent, counts.dropped_conflict
        one.boundary_f = boundary_f_score(mask, other, region)
        one.agrees = _agrees(store, one)
    return one


def _agrees(store: Store, one: Comparison) -> bool:
    """Whether two masks are the same answer; verdicts alone are not judged anew."""
    counts = confusion(one)
    if counts is None:
        return one.agrees
    if counts.accuracy >= 1 - TOO_FEW:
        return True
    # an empty mask beside an empty one was let through above; NaN is no disagreement of its own
    return not (counts.iou < store.least_iou or counts.kappa < store.least_kappa)

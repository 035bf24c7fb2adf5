"""Pairs that one of two annotators has answered when a new round begins: the other is still asked.

Label Studio offers what has a prediction of the project's version, so that a pair which only has one of
the round before would hardly ever come up again. Its task gets the same proposal once more, under the
new version and at a new place.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.store.queries import REVIEWED
from dataset_engine.store.reviews import FROM_ANNOTATORS, annotators_answers, standing
from dataset_engine.store.tables import AnnotationTask, Event, GoldAnswer, PairState
from dataset_engine.taxonomy import Status

BATCH = 500
"""Pairs in one question to the database."""


def half_answered(session: Session, project_id: int, model_version: str) -> dict[int, int]:
    """How many people answer each pair that some of them have, and that is not shown in this version.

    What somebody decided on the review pages needs no further opinion, and gold has its own places.

    Args:
        session: a session for reading.
        project_id: row id of the annotation project.
        model_version: the version that the labelling stream shows.
    """
    waiting = dict(
        session.execute(
            select(AnnotationTask.pair_id, AnnotationTask.overlap)
            .join(PairState, PairState.pair_id == AnnotationTask.pair_id)
            .join(Event, Event.id == PairState.event_id)
            .outerjoin(GoldAnswer, GoldAnswer.pair_id == AnnotationTask.pair_id)
            .where(
                AnnotationTask.project_id == project_id,
                AnnotationTask.overlap > 1,
                AnnotationTask.predicted_version != model_version,
                PairState.status.in_((*REVIEWED, Status.REJECTED)),
                Event.source.in_(FROM_ANNOTATORS),
                GoldAnswer.pair_id.is_(None),
            )
        ).all()
    )
    events: defaultdict[int, list[Event]] = defaultdict(list)
    ids = sorted(waiting)
    for start in range(0, len(ids), BATCH):
        for event in session.scalars(
            select(Event)
            .where(Event.pair_id.in_(ids[start : start + BATCH]))
            .order_by(Event.annotation_updated_at, Event.id)
        ):
            events[event.pair_id].append(event)
    return {
        pair_id: people
        for pair_id, people in waiting.items()
        if len(annotators_answers(standing(events[pair_id]), None)) < people
    }

"""Mixing gold tasks into what annotators are offered.

Towards Label Studio a gold task is like any other: its pair's task, with the proposal that a model once
made, under the version of all others. What the right answer is, only the engine's store knows.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import func, select

from annotator.offering import Offer, gold_places
from annotator.workplace import Workplace
from dataset_engine.store import Store
from dataset_engine.store.queries import UNDECIDED
from dataset_engine.store.reviews import FROM_ANNOTATORS, EventKind
from dataset_engine.store.tables import (
    AnnotationTask,
    Event,
    GoldAnswer,
    PairState,
    Proposal,
)


def gold_to_offer(store: Store, workplace: Workplace, model_version: str) -> list[Offer]:
    """Gold tasks that are missing among what is still to be answered under a model version.

    Those that were answered least come first, and nobody is asked twice. A pair without any proposal
    cannot be told from the others only by being like them, and is left out.
    """
    project = workplace.project_id
    tasks = select(AnnotationTask).where(AnnotationTask.project_id == project)
    with store.reading() as session:
        people = set(
            session.scalars(
                select(Event.actor)
                .distinct()
                .where(Event.project_id == project, Event.source.in_(FROM_ANNOTATORS))
            )
        )
        places = session.scalars(
            select(AnnotationTask.place)
            .join(PairState, PairState.pair_id == AnnotationTask.pair_id)
            .where(
                AnnotationTask.project_id == project,
                AnnotationTask.predicted_version == model_version,
                AnnotationTask.place.is_not(None),
                PairState.status.in_(UNDECIDED),
            )
            .order_by(AnnotationTask.place)
        ).all()
        newest = (
            select(GoldAnswer.pair_id, func.max(Proposal.id).label("proposal_id"))
            .join(Proposal, Proposal.pair_id == GoldAnswer.pair_id)
            .group_by(GoldAnswer.pair_id)
        )
        proposals = dict(session.execute(newest).all())
        offered = {
            row.pair_id: row
            for row in session.scalars(
                tasks.join(GoldAnswer, GoldAnswer.pair_id == AnnotationTask.pair_id)
            )
        }
        answered: defaultdict[int, set[str]] = defaultdict(set)
        for pair_id, actor in session.execute(
            select(Event.pair_id, Event.actor)
            .join(GoldAnswer, GoldAnswer.pair_id == Event.pair_id)
            .where(Event.project_id == project, Event.kind == EventKind.SUBMITTED)
        ):
            answered[pair_id].add(actor)
    count = max(1, len(people))
    wanted = gold_places([place for place in places if place is not None], count, workplace.mix)
    shown = {
        pair_id: row for pair_id, row in offered.items() if row.predicted_version == model_version
    }
    waiting = [
        pair_id
        for pair_id, row in shown.items()
        if row.overlap >= count and len(answered[pair_id]) < row.overlap
    ]
    free = sorted(
        (
            pair_id
            for pair_id in proposals
            if (pair_id not in shown or shown[pair_id].overlap < count)
            and len(answered[pair_id] & people) < count
        ),
        key=lambda pair_id: (len(answered[pair_id]), pair_id),
    )
    offers = []
    # those that wait already hold the first of the places
    for pair_id, place in zip(free, wanted[len(waiting) :], strict=False):
        row = shown.get(pair_id)
        if row is not None and row.place is not None:
            place = row.place  # noqa: PLW2901 - it was sent like any other, and keeps its place
        overlap = max(count, len(answered[pair_id]) + 1)
        offers.append(Offer(pair_id, proposals[pair_id], place, overlap))
    return offers

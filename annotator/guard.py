"""Putting back what people changed in Label Studio, which has no roles: anybody may do anything there.

A task that was deleted is made again, with its proposal and with what people had answered to it, under
their names. A labelling page or a project setting that was edited becomes the engine's again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from annotator.intake import take_annotation, take_deletion
from annotator.label_studio import PredictionData, TaskData, image_url
from annotator.results import (
    CONSISTENT,
    brush_region,
    choice_region,
    conflict_choices,
    proposal_result,
)
from annotator.workplace import Workplace
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.proposing import conflicts_of
from dataset_engine.store import Store
from dataset_engine.store.reviews import FROM_ANNOTATORS, Source, standing
from dataset_engine.store.tables import AnnotationTask, Event, Pair, Proposal
from dataset_engine.taxonomy import Status


@dataclass(frozen=True)
class Restored:
    """What was put back.

    Attributes:
        tasks: tasks that somebody had deleted.
        answers: annotations of these tasks.
        settings: what somebody had edited in the project, by Label Studio's names.
    """

    tasks: int = 0
    answers: int = 0
    settings: tuple[str, ...] = ()


NOTHING = Restored()


def put_back(store: Store, workplace: Workplace, *, tasks: bool = True) -> Restored:
    """See that the project is as the engine left it.

    Args:
        store: the store.
        workplace: where the annotators are.
        tasks: whether to list the tasks, which takes as long as there are many of them.
    """
    settings = workplace.studio.mend_project(workplace.project)
    gone = _gone(store, workplace) if tasks else []
    answers = sum(_put_back_task(store, workplace, row_id) for row_id in gone)
    return Restored(len(gone), answers, settings)


def _gone(store: Store, workplace: Workplace) -> Sequence[int]:
    there = set(workplace.studio.task_ids(workplace.project).values())
    query = select(AnnotationTask.id, AnnotationTask.task)
    with store.reading() as session:
        rows = session.execute(query.where(AnnotationTask.project_id == workplace.project_id))
        return [row_id for row_id, task in rows if task not in there]


def _put_back_task(store: Store, workplace: Workplace, row_id: int) -> int:
    """Make a task again; returns how many answers came with it."""
    with store.reading() as session:
        row = session.get_one(AnnotationTask, row_id)
        pair = session.get_one(
            Pair, row.pair_id, options=[selectinload(Pair.gt), selectinload(Pair.ref)]
        )
        urls = [
            image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())
            for image in (pair.gt, pair.ref)
        ]
        data = TaskData(pair.key, gt=urls[0], ref=urls[1])
        events = [
            event
            for event in standing(
                session.scalars(
                    select(Event)
                    .where(Event.pair_id == row.pair_id)
                    .order_by(Event.annotation_updated_at, Event.id)
                )
            )
            if event.project_id == workplace.project_id and event.source in FROM_ANNOTATORS
        ]
        shown = session.scalars(
            select(Proposal).where(Proposal.pair_id == row.pair_id).order_by(Proposal.id.desc())
        ).all()
    proposal = next((p for p in shown if p.model_version == row.predicted_version), None)
    proposal = proposal or next(iter(shown), None)
    studio, project = workplace.studio, workplace.project
    members = studio.people()
    (task,) = studio.import_tasks(
        project, [data], answers={pair.key: [_answer(store, event, members) for event in events]}
    )
    if proposal is not None and row.predicted_version is not None:
        studio.import_predictions(
            project,
            [
                PredictionData(
                    task,
                    row.predicted_version,
                    proposal.score if row.place is None else row.place,
                    proposal_result(
                        store.mask(proposal.mask_sha256),
                        proposal.score,
                        conflicts_of(store, Landmarks(store), pair, row.predicted_version),
                    ),
                )
            ],
        )
    if row.overlap > 1:
        studio.set_overlap(task, row.overlap)
    with store.writing() as session:
        session.get_one(AnnotationTask, row_id).task = task
    made = sorted(studio.task(task)["annotations"], key=lambda annotation: int(annotation["id"]))
    copied = events if len(made) == len(events) else []
    for number, annotation in enumerate(made):
        # a copy is no newer than what it is a copy of: a later decision on the pages stays the last word
        made_at = copied[number].annotation_updated_at if copied else None
        copy = {**annotation, "task": task}
        take_annotation(store, workplace.project_id, copy, Source.SYNC, made_at)
    for event in copied:
        take_deletion(store, workplace.project_id, int(event.annotation or 0), Source.SYNC)
    return len(made)


def _answer(store: Store, event: Event, members: frozenset[int]) -> Mapping[str, Any]:
    """What a person had submitted, as an import brings it; the mask is the one that was recorded."""
    rejected = event.status == Status.REJECTED
    mask = None if event.mask_after is None else store.mask(event.mask_after)
    # Label Studio shows a region without pixels as a broken one
    shown = (
        [] if mask is None or (rejected and not mask.any()) else [brush_region(mask, CONSISTENT)]
    )
    verdict = choice_region("verdict", ["reject" if rejected else "accept"])
    answer: dict[str, Any] = {
        "result": [*shown, *conflict_choices(event.conflicts), verdict],
        "lead_time": event.lead_time,
        "ground_truth": False,
        "was_cancelled": False,
    }
    number = event.actor.removeprefix("label-studio:")
    if number.isdecimal() and int(number) in members:
        answer["completed_by"] = int(number)
    return answer

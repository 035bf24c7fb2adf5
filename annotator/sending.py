"""Sending pairs and their proposals to the annotators; safe to break off and to repeat."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from annotator.label_studio import PredictionData, TaskData, image_url
from annotator.results import proposal_result
from annotator.workplace import Workplace
from dataset_engine.progress import Advance, silent
from dataset_engine.store import Store
from dataset_engine.store.tables import AnnotationTask, Image, Pair, PairState, Proposal
from dataset_engine.taxonomy import Status

BATCH = 250


def send_proposals(
    store: Store, workplace: Workplace, model_version: str, progress: Advance = silent
) -> int:
    """Show every undecided pair that has a proposal of this model version to the annotators.

    Pairs without a task get one. What was sent before is not sent again.

    Args:
        store: the store.
        workplace: where the annotators are.
        model_version: the version whose proposals they correct.
        progress: told how many pairs are sent.

    Returns:
        How many proposals were sent now.
    """
    _forget_deleted_tasks(store, workplace)
    waiting = _waiting(store, workplace, model_version)
    progress(0, len(waiting))
    _make_tasks(store, workplace, [pair_id for pair_id, _ in waiting])
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        _send_batch(store, workplace, [proposal_id for _, proposal_id in batch])
        if start == 0:
            # not at the end: people may be annotating while the rest is sent
            _show(store, workplace, model_version)
        progress(start + len(batch), len(waiting))
    if not waiting:
        _show(store, workplace, model_version)
    return len(waiting)


def _forget_deleted_tasks(store: Store, workplace: Workplace) -> None:
    """Label Studio has no roles, so anybody may have deleted a task: its pair gets a new one."""
    there = set(workplace.studio.task_ids(workplace.project).values())
    with store.writing() as session:
        rows = session.scalars(
            select(AnnotationTask).where(AnnotationTask.project_id == workplace.project_id)
        )
        for row in rows:
            if row.task not in there:
                session.delete(row)


def _show(store: Store, workplace: Workplace, model_version: str) -> None:
    """Have the labelling stream show this version, which Label Studio takes once it has some."""
    with store.reading() as session:
        some = session.scalar(
            select(AnnotationTask.id)
            .where(
                AnnotationTask.project_id == workplace.project_id,
                AnnotationTask.predicted_version == model_version,
            )
            .limit(1)
        )
    if some is not None:
        workplace.studio.set_model_version(workplace.project, model_version)


def _waiting(store: Store, workplace: Workplace, model_version: str) -> list[tuple[int, int]]:
    """Ids of pairs and proposals that have not been sent."""
    with store.reading() as session:
        sent = select(AnnotationTask.pair_id).where(
            AnnotationTask.project_id == workplace.project_id,
            AnnotationTask.predicted_version == model_version,
        )
        query = (
            select(Proposal.pair_id, Proposal.id)
            .join(PairState, PairState.pair_id == Proposal.pair_id)
            .join(Pair, Pair.id == Proposal.pair_id)
            .where(
                Proposal.model_version == model_version,
                PairState.status == Status.PROPOSED,
                Proposal.pair_id.not_in(sent),
            )
            .order_by(Pair.position)
        )
        return list(session.execute(query))


def _make_tasks(store: Store, workplace: Workplace, pair_ids: Sequence[int]) -> None:
    """Make the tasks that are missing, all in one import, so that the listing is read twice only."""
    with store.reading() as session:
        have = set(
            session.scalars(
                select(AnnotationTask.pair_id).where(
                    AnnotationTask.project_id == workplace.project_id
                )
            )
        )
        wanted = [pair_id for pair_id in pair_ids if pair_id not in have]
        data: list[tuple[int, TaskData]] = []
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            for pair in session.scalars(
                select(Pair).where(Pair.id.in_(some)).order_by(Pair.position)
            ):
                task = TaskData(pair.key, gt=_url(store, pair.gt), ref=_url(store, pair.ref))
                data.append((pair.id, task))
    if not data:
        return
    tasks = workplace.studio.import_tasks(workplace.project, [task for _, task in data])
    with store.writing() as session:
        for (pair_id, _), number in zip(data, tasks, strict=True):
            session.add(
                AnnotationTask(project_id=workplace.project_id, task=number, pair_id=pair_id)
            )


def _send_batch(store: Store, workplace: Workplace, proposal_ids: list[int]) -> None:
    with store.reading() as session:
        rows = session.execute(
            select(AnnotationTask.id, AnnotationTask.task, Proposal)
            .join(Proposal, Proposal.pair_id == AnnotationTask.pair_id)
            .where(Proposal.id.in_(proposal_ids), AnnotationTask.project_id == workplace.project_id)
        ).all()
    workplace.studio.import_predictions(
        workplace.project,
        [
            PredictionData(
                task=task,
                model_version=proposal.model_version,
                score=proposal.score,
                result=proposal_result(store.mask(proposal.mask_sha256), proposal.score),
            )
            for _, task, proposal in rows
        ],
    )
    with store.writing() as session:
        for row_id, _, proposal in rows:
            row = session.get_one(AnnotationTask, row_id)
            row.predicted_version = proposal.model_version


def _url(store: Store, image: Image) -> str:
    return image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())

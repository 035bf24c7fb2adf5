"""Sending pairs and their proposals to the annotators; safe to break off and to repeat."""

from __future__ import annotations

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
    waiting = _waiting(store, workplace, model_version)
    sent = 0
    progress(0, len(waiting))
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        _make_tasks(store, workplace, [pair_id for pair_id, _ in batch])
        _send_batch(store, workplace, [proposal_id for _, proposal_id in batch])
        sent += len(batch)
        progress(sent, len(waiting))
    if waiting:
        workplace.studio.set_model_version(workplace.project, model_version)
    return sent


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


def _make_tasks(store: Store, workplace: Workplace, pair_ids: list[int]) -> None:
    with store.reading() as session:
        have = select(AnnotationTask.pair_id).where(
            AnnotationTask.project_id == workplace.project_id
        )
        pairs = session.scalars(
            select(Pair).where(Pair.id.in_(pair_ids), Pair.id.not_in(have)).order_by(Pair.position)
        ).all()
        data = [
            TaskData(pair=pair.key, gt=_url(store, pair.gt), ref=_url(store, pair.ref))
            for pair in pairs
        ]
    if not pairs:
        return
    tasks = workplace.studio.import_tasks(workplace.project, data)
    with store.writing() as session:
        for pair, task in zip(pairs, tasks, strict=True):
            session.add(AnnotationTask(project_id=workplace.project_id, task=task, pair_id=pair.id))


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

"""Sending pairs and their proposals to the annotators; safe to break off and to repeat."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased, selectinload

from annotator.gold_tasks import gold_to_offer
from annotator.guard import put_back
from annotator.label_studio import PredictionData, TaskData, image_url
from annotator.offering import STEP, Candidate, Offer, in_order
from annotator.results import proposal_result
from annotator.second_opinions import half_answered
from annotator.sync import sync_lock
from annotator.workplace import Workplace
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.proposing import conflicts_of
from dataset_engine.progress import Advance, silent
from dataset_engine.store import Store
from dataset_engine.store.tables import AnnotationTask, Image, Pair, PairState, Proposal
from dataset_engine.taxonomy import Status

BATCH = 250


def send_proposals(
    store: Store, workplace: Workplace, model_version: str, progress: Advance = silent
) -> int:
    """Show every undecided pair that has a proposal of this model version to the annotators.

    Pairs without a task get one. What was sent before is not sent again. Pairs that still wait for a
    second opinion come along with the proposal that the first annotator saw.

    Args:
        store: the store.
        workplace: where the annotators are.
        model_version: the version whose proposals they correct.
        progress: told how many pairs are sent.

    Returns:
        How many proposals were sent now.
    """
    with sync_lock(store.home):
        # a task that somebody deleted meanwhile comes back with its answers, not as a new one without
        put_back(store, workplace)
    waiting = _waiting(store, workplace, model_version)
    progress(0, len(waiting))
    _make_tasks(store, workplace, [one.pair_id for one in waiting])
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        _send_batch(store, workplace, model_version, batch)
        if start == 0:
            # not at the end: people may be annotating while the rest is sent
            _show(store, workplace, model_version)
        progress(start + len(batch), len(waiting))
    if not waiting:
        _show(store, workplace, model_version)
    _send_gold(store, workplace, model_version)
    return len(waiting)


def _send_gold(store: Store, workplace: Workplace, model_version: str) -> None:
    gold = gold_to_offer(store, workplace, model_version)
    _make_tasks(store, workplace, [one.pair_id for one in gold])
    for start in range(0, len(gold), BATCH):
        _send_batch(store, workplace, model_version, gold[start : start + BATCH])


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


def _waiting(store: Store, workplace: Workplace, model_version: str) -> list[Offer]:
    """What has not been sent, in the order in which it is to be offered."""
    tasks = (
        AnnotationTask.project_id == workplace.project_id,
        AnnotationTask.predicted_version == model_version,
    )
    undecided = (
        Proposal.model_version == model_version,
        PairState.status == Status.PROPOSED,
        Proposal.pair_id.not_in(select(AnnotationTask.pair_id).where(*tasks)),
    )
    with store.reading() as session:
        second = half_answered(session, workplace.project_id, model_version)
        candidates = _candidates(session, *undecided)
        for start in range(0, len(second), BATCH):
            some = PairState.pair_id.in_(list(second)[start : start + BATCH])
            candidates += _candidates(session, some, Proposal.id == PairState.proposal_id)
        # what is sent later comes after what was sent before
        last = session.scalar(select(func.max(AnnotationTask.place)).where(*tasks)) or 0.0
    return [
        Offer(
            one.pair_id,
            one.proposal_id,
            last + place * STEP,
            second.get(one.pair_id, 1 + workplace.mix.double(one.key)),
        )
        for place, one in enumerate(in_order(candidates, workplace.mix), start=1)
    ]


def _candidates(session: Session, *which: ColumnElement[bool]) -> list[Candidate]:
    """Pairs with one of their proposals; how unsure a model is of them is known from any of these."""
    measured = (
        select(Proposal.pair_id, func.max(Proposal.id).label("proposal_id"))
        .where(Proposal.entropy.is_not(None))
        .group_by(Proposal.pair_id)
        .subquery()
    )
    known = aliased(Proposal)
    query = (
        select(
            Proposal.pair_id,
            Proposal.id,
            Pair.key,
            Pair.identity_id,
            Pair.position,
            func.coalesce(
                known.entropy + func.coalesce(known.flip_disagreement, 0.0), 1.0 - Proposal.score
            ),
        )
        .join(PairState, PairState.pair_id == Proposal.pair_id)
        .join(Pair, Pair.id == Proposal.pair_id)
        .outerjoin(measured, measured.c.pair_id == Proposal.pair_id)
        .outerjoin(known, known.id == measured.c.proposal_id)
        .where(*which)
    )
    return [
        Candidate(pair_id, proposal_id, key, identity_id, position, uncertainty or 0.0)
        for pair_id, proposal_id, key, identity_id, position, uncertainty in session.execute(query)
    ]


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


def _send_batch(
    store: Store, workplace: Workplace, model_version: str, batch: Sequence[Offer]
) -> None:
    offers = {one.proposal_id: one for one in batch}
    with store.reading() as session:
        rows = session.execute(
            select(AnnotationTask.id, AnnotationTask.task, Proposal, Pair)
            .join(Proposal, Proposal.pair_id == AnnotationTask.pair_id)
            .join(Pair, Pair.id == Proposal.pair_id)
            .where(Proposal.id.in_(offers), AnnotationTask.project_id == workplace.project_id)
            .options(selectinload(Pair.gt), selectinload(Pair.ref))
        ).all()
    landmarks = Landmarks(store)
    workplace.studio.import_predictions(
        workplace.project,
        [
            PredictionData(
                task=task,
                model_version=model_version,
                score=offers[proposal.id].place,
                result=proposal_result(
                    store.mask(proposal.mask_sha256),
                    proposal.score,
                    conflicts_of(store, landmarks, pair, model_version),
                ),
            )
            for _, task, proposal, pair in rows
        ],
    )
    for _, task, proposal, _ in rows:
        if offers[proposal.id].overlap > 1:
            workplace.studio.set_overlap(task, offers[proposal.id].overlap)
    with store.writing() as session:
        for row_id, _, proposal, _ in rows:
            row = session.get_one(AnnotationTask, row_id)
            row.predicted_version = model_version
            row.place, row.overlap = offers[proposal.id].place, offers[proposal.id].overlap


def _url(store: Store, image: Image) -> str:
    return image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())

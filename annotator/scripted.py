"""The demo's annotator: a program that submits the sample's exact masks.

It goes through Label Studio's own API, as a browser does, so that every byte takes the real path. It
is no substitute for people: it exists because the sample's masks are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy import select
from sqlalchemy.orm import aliased

from annotator.results import review_result
from annotator.workplace import Workplace
from dataset_engine.progress import Advance, silent
from dataset_engine.sample import identity_index, shot_index, truth
from dataset_engine.store import Store
from dataset_engine.store.tables import AnnotationTask, Identity, Image, Pair, PairState
from dataset_engine.taxonomy import Status

SECONDS_A_MASK = 20.0
"""What the program claims to have spent on a mask; a person's lead time is measured."""


@dataclass(frozen=True)
class _Open:
    task: int
    identity: str
    gt: str
    ref: str


def annotate_all(store: Store, workplace: Workplace, seed: int, progress: Advance = silent) -> int:
    """Submit the exact mask, its conflicts and the verdict for every open task.

    Args:
        store: a store into which a rendered sample was ingested.
        workplace: where the tasks are.
        seed: the sample's seed.
        progress: told how many tasks are done.

    Returns:
        How many annotations were submitted.
    """
    tasks = _open_tasks(store, workplace)
    progress(0, len(tasks))
    for done, task in enumerate(tasks, start=1):
        exact = truth(
            seed,
            identity_index(task.identity),
            shot_index(PurePosixPath(task.gt).stem),
            shot_index(PurePosixPath(task.ref).stem),
        )
        result = review_result(exact.mask, exact.conflicts, "accept")
        workplace.studio.submit_annotation(task.task, result, SECONDS_A_MASK)
        progress(done, len(tasks))
    return len(tasks)


def _open_tasks(store: Store, workplace: Workplace) -> list[_Open]:
    gt, ref = aliased(Image), aliased(Image)
    query = (
        select(AnnotationTask.task, Identity.name, gt.name, ref.name)
        .join(Pair, Pair.id == AnnotationTask.pair_id)
        .join(PairState, PairState.pair_id == Pair.id)
        .join(Identity, Identity.id == Pair.identity_id)
        .join(gt, gt.id == Pair.gt_id)
        .join(ref, ref.id == Pair.ref_id)
        .where(
            AnnotationTask.project_id == workplace.project_id,
            PairState.status == Status.PROPOSED,
        )
        .order_by(AnnotationTask.task)
    )
    with store.reading() as session:
        return [_Open(*row) for row in session.execute(query)]

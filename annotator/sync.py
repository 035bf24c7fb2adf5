"""`engine sync`: what Label Studio holds is the truth; bring the store to the same state.

Webhooks are delivered once and never again, so any of them may be lost. A sync reads the annotations
that the server has, records those that the store does not know in this form, and records as deleted
those that the store knows and the server has no longer. It can be run at any time and any number of
times; `sync_changed` does the same for the tasks that changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from annotator.guard import NOTHING as NOTHING_RESTORED
from annotator.guard import Restored
from annotator.intake import UnknownTaskError, take_annotation, take_deletion
from annotator.locks import held
from annotator.results import AnnotationError
from dataset_engine.progress import Advance, silent
from dataset_engine.store import BlobError, Store
from dataset_engine.store.reviews import EventKind, Source
from dataset_engine.store.tables import AnnotationTask, Event

FEW = 10
MOST_GONE = 0.2
"""Share of the annotations that people are believed to have deleted between two syncs."""


BATCH = 500
"""Tasks in one question to the database."""


class MassDeletionError(RuntimeError):
    """A large part of the known annotations is gone from the server."""


@dataclass
class SyncReport:
    """What a sync found.

    Attributes:
        annotations: annotations on the server.
        recorded: of these, how many were new to the store or had changed.
        deleted: annotations that the server has no longer.
        unusable: annotations that cannot be read, with the reason.
        foreign: annotations of tasks that this engine did not send.
        restored: what people had deleted or edited there, and what was put back before.
    """

    annotations: int = 0
    recorded: int = 0
    deleted: int = 0
    unusable: dict[str, str] = field(default_factory=dict)
    foreign: int = 0
    restored: Restored = NOTHING_RESTORED


def sync_lock(home: Path, patience: float = 120.0) -> AbstractContextManager[None]:
    """Hold the one sync of a home.

    Raises:
        LockHeldError: another one is still running after so many seconds.
    """
    busy = f"another sync of {home} is running: wait for it, then run the same command again"
    return held(home / "sync.lock", busy, patience)


def sync(
    store: Store,
    project_id: int,
    annotations: Iterable[Mapping[str, Any]],
    progress: Advance = silent,
    *,
    accept_deletions: bool = False,
) -> SyncReport:
    """Reconcile the store with every annotation of a project.

    Args:
        store: the store.
        project_id: row id of the annotation project.
        annotations: all annotations that the server holds, skipped ones included.
        progress: called with the number of annotations read so far.
        accept_deletions: believe it when a large part of the annotations is gone.

    Raises:
        MassDeletionError: so many annotations are gone that the server is rather at fault (an old
            backup was put back, or another server answers).

    Deletions are only concluded once the whole listing has been read: a server that breaks off in
    the middle raises here and nothing is taken for deleted.
    """
    known_before = _live(store, project_id)
    report = SyncReport()
    present: set[int] = set()
    for annotation in annotations:
        _take(store, project_id, annotation, report, present)
        progress(report.annotations, None)
    vanished = known_before - present
    _conclude(store, project_id, vanished, report, accept_deletions=accept_deletions)
    return report


def sync_changed(
    store: Store,
    project_id: int,
    tasks: Iterable[Mapping[str, Any]],
    gone: Collection[int] = (),
) -> SyncReport:
    """Reconcile the store with the tasks of a project that changed.

    Args:
        store: the store.
        project_id: row id of the annotation project.
        tasks: the changed tasks, each with ``id`` and all its ``annotations``.
        gone: tasks that the server does not have any more.

    Raises:
        MassDeletionError: see `sync`.
    """
    with store.reading() as session:
        newest = session.scalar(select(func.max(Event.id))) or 0
    report = SyncReport()
    present: set[int] = set()
    changed = set(gone)
    for task in tasks:
        changed.add(task["id"])
        for annotation in task["annotations"]:
            _take(store, project_id, annotation, report, present)
    # what webhooks brought meanwhile may be younger than the listing, and is no matter of it
    vanished = _live(store, project_id, up_to=newest, tasks=changed) - present
    _conclude(store, project_id, vanished, report)
    return report


def _take(
    store: Store,
    project_id: int,
    annotation: Mapping[str, Any],
    report: SyncReport,
    present: set[int],
) -> None:
    report.annotations += 1
    number = annotation.get("id")
    if isinstance(number, int):
        present.add(number)
    try:
        taken = take_annotation(store, project_id, annotation, Source.SYNC)
    except UnknownTaskError:
        report.foreign += 1
        return
    except (AnnotationError, BlobError) as error:
        report.unusable[str(number)] = str(error)
        return
    report.recorded += taken.recorded.new
    if taken.unusable:
        report.unusable[str(number)] = taken.unusable


def _conclude(
    store: Store,
    project_id: int,
    vanished: set[int],
    report: SyncReport,
    *,
    accept_deletions: bool = False,
) -> None:
    """Take what the server has no longer for deleted."""
    if len(vanished) > FEW and not accept_deletions:
        known = len(_live(store, project_id))
        if len(vanished) > MOST_GONE * known:
            raise MassDeletionError(
                f"{len(vanished)} of {known} annotations are not on the server any more. "
                "Nothing was taken back. If people really deleted them, run "
                "`engine sync --accept-deletions`; else put the server's data back"
            )
    for number in sorted(vanished):
        report.deleted += take_deletion(store, project_id, number, Source.SYNC).recorded.new


def _live(
    store: Store, project_id: int, up_to: int | None = None, tasks: Collection[int] | None = None
) -> set[int]:
    """Annotations that are not deleted: as of an event, and of some tasks only, if these are given."""
    events = select(func.max(Event.id)).where(
        Event.project_id == project_id, Event.annotation.is_not(None)
    )
    if up_to is not None:
        events = events.where(Event.id <= up_to)
    if tasks is None:
        some = [events]
    else:
        ids = sorted(tasks)
        some = [
            events.where(
                Event.pair_id.in_(
                    select(AnnotationTask.pair_id).where(
                        AnnotationTask.project_id == project_id,
                        AnnotationTask.task.in_(ids[start : start + BATCH]),
                    )
                )
            )
            for start in range(0, len(ids), BATCH)
        ]
    live: set[int] = set()
    with store.reading() as session:
        for newest in some:
            live.update(
                number
                for number in session.scalars(
                    select(Event.annotation).where(
                        Event.id.in_(newest.group_by(Event.annotation)),
                        Event.kind != EventKind.DELETED,
                    )
                )
                if number is not None
            )
    return live

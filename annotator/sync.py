"""`engine sync`: what Label Studio holds is the truth; bring the store to the same state.

Webhooks are delivered once and never again, so any of them may be lost. A sync reads the annotations
that the server has, records those that the store does not know in this form, and records as deleted
those that the store knows and the server has no longer. It can be run at any time and any number of
times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from annotator.intake import UnknownTaskError, take_annotation, take_deletion
from annotator.results import AnnotationError
from dataset_engine.progress import Advance, silent
from dataset_engine.store import BlobError, Store
from dataset_engine.store.reviews import EventKind, Source
from dataset_engine.store.tables import Event

FEW = 10
MOST_GONE = 0.2
"""Share of the annotations that people are believed to have deleted between two syncs."""


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
    """

    annotations: int = 0
    recorded: int = 0
    deleted: int = 0
    unusable: dict[str, str] = field(default_factory=dict)
    foreign: int = 0


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
        report.annotations += 1
        progress(report.annotations, None)
        number = annotation.get("id")
        if isinstance(number, int):
            present.add(number)
        try:
            taken = take_annotation(store, project_id, annotation, Source.SYNC)
        except UnknownTaskError:
            report.foreign += 1
            continue
        except (AnnotationError, BlobError) as error:
            report.unusable[str(number)] = str(error)
            continue
        report.recorded += taken.recorded.new
        if taken.unusable:
            report.unusable[str(number)] = taken.unusable
    vanished = known_before - present
    if len(vanished) > max(FEW, MOST_GONE * len(known_before)) and not accept_deletions:
        raise MassDeletionError(
            f"{len(vanished)} of {len(known_before)} annotations are not on the server any more. "
            "Nothing was taken back. If people really deleted them, run "
            "`engine sync --accept-deletions`; else put the server's data back"
        )
    for gone in sorted(vanished):
        report.deleted += take_deletion(store, project_id, gone, Source.SYNC).recorded.new
    return report


def _live(store: Store, project_id: int) -> set[int]:
    newest = (
        select(func.max(Event.id))
        .where(Event.project_id == project_id, Event.annotation.is_not(None))
        .group_by(Event.annotation)
    )
    with store.reading() as session:
        return {
            annotation
            for annotation in session.scalars(
                select(Event.annotation).where(
                    Event.id.in_(newest), Event.kind != EventKind.DELETED
                )
            )
            if annotation is not None
        }

"""Syncs by themselves while the service runs: all once, then what changed since the last time.

A poll asks the server for the tasks that changed, which a deletion of an annotation changes too, and for
the number of its tasks: where that is not as expected, tasks were deleted, and what became of them is
looked up. Pairs that were decided on the review pages are marked as done there, so that nobody is asked
for them again; undoing the decision takes the mark away.
"""

from __future__ import annotations

import logging
from datetime import datetime
from threading import Event as Signal
from threading import Thread
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from annotator.connection import LabelStudioError, LabelStudioUnavailable
from annotator.guard import put_back
from annotator.intake import HOME_SERVER
from annotator.locks import LockHeldError
from annotator.sync import MassDeletionError, SyncReport, sync_changed, sync_lock
from annotator.workplace import Workplace, connect
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PAGE
from dataset_engine.store.tables import (
    AnnotationProject,
    AnnotationTask,
    Event,
    GoldAnswer,
    PairState,
)

log = logging.getLogger(__name__)


class Poller:
    """Syncs with the one project, remembering what it saw last.

    Args:
        store: the store.
        settings: where Label Studio is.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._project_id: int | None = None
        self._since: datetime | None = None
        self._surplus = 0
        self._marked: set[int] = set()
        self._annotated: set[int] = set()
        self._answered_early: set[int] = set()

    def poll(self) -> SyncReport | None:
        """Sync once; None where nothing was ever sent to this server.

        Raises:
            LabelStudioError: the server does not answer, or refuses.
            LockHeldError: another sync of this home is running.
            MassDeletionError: see `annotator.sync.sync`.
        """
        if not self._has_project():
            return None
        with (
            sync_lock(self._store.home, patience=0),
            connect(self._store, self._settings) as workplace,
        ):
            return self._poll(workplace)

    def _poll(self, workplace: Workplace) -> SyncReport:
        if workplace.project_id != self._project_id:
            self._project_id, self._since = workplace.project_id, None
        studio = workplace.studio
        began = studio.clock()
        ours = self._tasks()
        surplus = studio.task_count(workplace.project) - len(ours)
        unlike = self._since is None or surplus != self._surplus
        restored = put_back(self._store, workplace, tasks=unlike)
        if restored.tasks:
            ours = self._tasks()
            surplus = studio.task_count(workplace.project) - len(ours)
        gone: set[int] = set()
        if unlike:
            gone = ours - set(studio.task_ids(workplace.project).values())
        known_by_now = self._answered_early & ours
        changed = [studio.changed_tasks(workplace.project, self._since)]
        if known_by_now:
            changed.append(studio.changed_tasks(workplace.project, only=known_by_now))
        looked_at = (self._look(task, ours) for some in changed for task in some)
        report = sync_changed(self._store, workplace.project_id, looked_at, gone)
        self._answered_early -= known_by_now
        self._marked &= ours
        self._mark(workplace)
        self._since, self._surplus = began, surplus
        report.restored = restored
        return report

    def _look(self, task: dict[str, Any], ours: set[int]) -> dict[str, Any]:
        """Remember whether a task is done by its annotations or by our mark.

        One that is being sent may be answered before the store knows of it: it is looked at again then.
        """
        if task["annotations"] and task["id"] not in ours:
            self._answered_early.add(task["id"])
        annotated = any(not one.get("was_cancelled") for one in task["annotations"])
        for tasks, belongs in ((self._annotated, annotated), (self._marked, not annotated)):
            if task["is_labeled"] and belongs:
                tasks.add(task["id"])
            else:
                tasks.discard(task["id"])
        return task

    def _mark(self, workplace: Workplace) -> None:
        """Offer what was decided on the pages no more, and what is open again anew."""
        decided = self._decided_on_pages()
        marks = dict.fromkeys(decided - self._marked - self._annotated, True)
        marks |= dict.fromkeys(self._marked - decided, False)
        for task, mark in sorted(marks.items()):
            try:
                workplace.studio.set_done(task, mark)
            except LabelStudioUnavailable:
                raise
            except LabelStudioError as error:
                log.warning("sync: task %d cannot be marked: %s", task, error)
            (self._marked.add if mark else self._marked.discard)(task)

    def _has_project(self) -> bool:
        server = self._settings.label_studio_url or HOME_SERVER
        query = select(AnnotationProject.id).where(AnnotationProject.server == server).limit(1)
        with self._store.reading() as session:
            return session.scalar(query) is not None

    def _tasks(self) -> set[int]:
        query = select(AnnotationTask.task).where(AnnotationTask.project_id == self._project_id)
        with self._store.reading() as session:
            return set(session.scalars(query))

    def _decided_on_pages(self) -> set[int]:
        """Tasks whose pair stands as a click left it."""
        query = (
            select(AnnotationTask.task)
            .join(PairState, PairState.pair_id == AnnotationTask.pair_id)
            .join(Event, Event.id == PairState.event_id)
            # these test annotators, although their pairs are decided
            .outerjoin(GoldAnswer, GoldAnswer.pair_id == AnnotationTask.pair_id)
            .where(
                AnnotationTask.project_id == self._project_id,
                Event.source == PAGE,
                GoldAnswer.pair_id.is_(None),
            )
        )
        with self._store.reading() as session:
            return set(session.scalars(query))


class SyncTimer:
    """Polls every so many seconds in a thread of its own, from `start` to `close`.

    Args:
        store: the store.
        settings: where Label Studio is, and how often it is polled; 0 for never.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._every = settings.sync_every
        self._poller = Poller(store, settings)
        self._over = Signal()
        self._thread = Thread(target=self._run, name="sync", daemon=True)
        self._trouble = ""

    def __enter__(self) -> Self:
        if self._every:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()  # a poll that hangs ends with the process

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                report = self._poller.poll()
            except LockHeldError:
                continue  # `engine sync` is at it
            except (LabelStudioError, MassDeletionError, SQLAlchemyError, OSError) as error:
                self._say(str(error))
                continue
            except Exception:
                log.exception("a sync failed")
                continue
            self._say("")
            if report is not None and (report.recorded or report.deleted):
                log.info(
                    "sync: %d annotations were new or had changed, %d were deleted",
                    report.recorded,
                    report.deleted,
                )

    def _say(self, trouble: str) -> None:
        """Say what is wrong once, and not at each poll."""
        if trouble and trouble != self._trouble:
            log.warning("sync: %s", trouble)
        self._trouble = trouble

"""What an ingest did, and which files of all sources are set aside."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from dataset_engine.ingest_files import Left, printable
from dataset_engine.store import Store
from dataset_engine.store.tables import SetAsideFile, now

EXAMPLES = 100
BATCH = 200
PATH_LENGTH = 1024


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes:
        added: new images.
        known: images that were in the store already.
        pairs: new pairs.
        inputs: restoration inputs (they have no ground truth) that are new, or whose files are.
        relicensed: identities of earlier runs whose licence or consent is another one now.
        left: the first files set aside in this run, as examples.
        reasons: how many files were set aside for each reason.
        notes: what else people should know, in sentences.
        report: CSV file with a line for each file of the store that is set aside.
    """

    added: int = 0
    known: int = 0
    pairs: int = 0
    inputs: int = 0
    relicensed: int = 0
    left: list[Left] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    report: Path | None = None


class SetAsideList:
    """Keeps what the store knows of a source's set-aside files, a batch at a time.

    Args:
        store: the store.
        report: is told of every file.
        scope: how the paths of this source's files begin; those of others stay as they are.
    """

    def __init__(self, store: Store, report: IngestReport, scope: Path | str) -> None:
        self._store = store
        self._report = report
        self._scope = printable(scope)
        self._began = now()
        self._batch: dict[str, Left] = {}

    def add(self, left: Left) -> None:
        """Set a file aside."""
        self._report.reasons[left.reason] += 1
        if len(self._report.left) < EXAMPLES:
            self._report.left.append(left)
        self._batch[left.file[:PATH_LENGTH]] = left
        if len(self._batch) >= BATCH:
            self._flush()

    def close(self) -> None:
        """Forget the source's files that are no longer set aside, and write the list of all."""
        self._flush()
        self._forget()
        self._report.report = write_set_aside_list(self._store)

    def _flush(self) -> None:
        batch, self._batch = self._batch, {}
        if not batch:
            return
        with self._store.writing() as session:
            there = select(SetAsideFile).where(SetAsideFile.path.in_(batch))
            known = {row.path: row for row in session.scalars(there)}
            for path, left in batch.items():
                row = known.get(path) or SetAsideFile(path=path)
                row.reason, row.detail = left.reason, left.detail
                row.at = max(now(), self._began)  # clocks can be set back
                session.add(row)

    def _forget(self) -> None:
        """Delete the scope's rows that this run did not touch."""
        old = (
            select(SetAsideFile)
            .where(
                SetAsideFile.path.startswith(self._scope, autoescape=True),
                SetAsideFile.at < self._began,
            )
            .order_by(SetAsideFile.id)
            .limit(BATCH)
        )
        last = 0
        while True:
            with self._store.writing() as session:
                rows = session.scalars(old.where(SetAsideFile.id > last)).all()
                for row in rows:
                    if row.path.startswith(self._scope):  # databases may pass over case
                        session.delete(row)
            if len(rows) < BATCH:
                return
            last = rows[-1].id


def write_set_aside_list(store: Store) -> Path | None:
    """Write every set-aside file of the store as CSV; None where there is none."""
    path = store.home / "reports" / "set-aside.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = select(SetAsideFile.path, SetAsideFile.reason, SetAsideFile.detail)
    query = columns.order_by(SetAsideFile.path).execution_options(yield_per=BATCH)
    some = False
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)  # it is the home that keeps people out
            writer = csv.writer(file)
            writer.writerow(("file", "reason", "detail"))
            with store.reading() as session:
                for row in session.execute(query):
                    writer.writerow(row)
                    some = True
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path if some else None

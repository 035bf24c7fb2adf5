"""What an ingest did, and which files of all sources are set aside."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from dataset_engine.ingest_files import Left, printable
from dataset_engine.store import Store
from dataset_engine.store.blobs import write_atomically
from dataset_engine.store.tables import SetAsideFile


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes:
        added: new images.
        known: images that were in the store already.
        pairs: new pairs.
        relicensed: identities of earlier runs whose licence is another one now.
        left: files set aside in this run.
        report: CSV file with a line for each file of the store that is set aside.
    """

    added: int = 0
    known: int = 0
    pairs: int = 0
    relicensed: int = 0
    left: list[Left] = field(default_factory=list)
    report: Path | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """How many files were set aside for each reason."""
        return dict(Counter(left.reason for left in self.left))


def record_set_aside(store: Store, root: Path, files: Iterable[Left]) -> Path | None:
    """Replace what the store knows of a folder's set-aside files, and write the list of all of them.

    Args:
        store: the store.
        root: the resolved folder; files of other folders stay as they are.
        files: all of the folder's files that are set aside now.

    Returns:
        The CSV file, or None where no file of any folder is set aside.
    """
    now = {left.file[:1024]: left for left in files}
    prefix = printable(root).rstrip("/") + "/"
    with store.writing() as session:
        below = select(SetAsideFile).where(SetAsideFile.path.startswith(prefix, autoescape=True))
        known: dict[str, SetAsideFile] = {}
        for row in session.scalars(below).all():
            if row.path in now:
                known[row.path] = row
            elif row.path.startswith(prefix):  # databases may compare without regard to case
                session.delete(row)
        for path, left in now.items():
            row = known.get(path) or SetAsideFile(path=path)
            row.reason, row.detail = left.reason, left.detail
            session.add(row)
    with store.reading() as session:
        columns = select(SetAsideFile.path, SetAsideFile.reason, SetAsideFile.detail)
        rows = session.execute(columns.order_by(SetAsideFile.path)).all()
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("file", "reason", "detail"))
    writer.writerows(rows)
    report = store.home / "reports" / "set-aside.csv"
    write_atomically(report, text.getvalue().encode())
    return report if rows else None

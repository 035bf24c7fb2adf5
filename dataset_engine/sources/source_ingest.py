"""What every ingest of a source is given, whatever the source's form."""

from __future__ import annotations

from pathlib import Path

from dataset_engine.ingest_report import IngestReport, SetAsideList
from dataset_engine.settings import Settings
from dataset_engine.store import Store


class SourceIngest:
    """One ingest of one source, whose name in the store is the folder's.

    Args:
        store: the store.
        settings: seed and licence are read from it.
        root: the resolved folder or file.
        report: is told what was done.
        left: is told what is set aside.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        root: Path,
        report: IngestReport,
        left: SetAsideList,
    ) -> None:
        self._store = store
        self._settings = settings
        self._root = root
        self._source = root.name or "root"
        self._report = report
        self._left = left

"""What every ingest of a source is given, whatever the source's form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dataset_engine.ingest_report import IngestReport, SetAsideList
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.removals import forgotten

FORGOTTEN = "forgotten"
"""Why somebody is set aside who was removed from the store."""


def forgotten_detail(name: str) -> str:
    """The same in a sentence, with the mend."""
    return f"was removed by `engine forget`; `--again {name}` takes this person in again"


@dataclass(frozen=True)
class Given:
    """What an ingest works with.

    Attributes:
        store: the store.
        settings: seed, licence and consent are read from it.
        root: the resolved folder or file.
        report: is told what was done.
        left: is told what is set aside.
    """

    store: Store
    settings: Settings
    root: Path
    report: IngestReport
    left: SetAsideList


class SourceIngest:
    """One ingest of one source, whose name in the store is the folder's."""

    def __init__(self, given: Given) -> None:
        self._store = given.store
        self._settings = given.settings
        self._root = given.root
        self._source = given.root.name or "root"
        self._report = given.report
        self._left = given.left

    def _forgotten(self, names: Iterable[str]) -> set[str]:
        """The names of this source's people who were removed and may not come in again."""
        with self._store.reading() as session:
            return forgotten(session, self._source, names)

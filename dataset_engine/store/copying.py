"""All rows of one store's database into another's, whatever kind of database each is.

What arrives is compared with what left by a digest of every table, before anything is committed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Integer, Row, Table, func, insert, make_url, select, text

from dataset_engine.progress import Advance, silent
from dataset_engine.store.database import open_engine, upgrade
from dataset_engine.store.tables import Base, RowCount

BATCH = 1000


class CopyError(RuntimeError):
    """A database that cannot be copied into another; nothing was changed."""


@dataclass(frozen=True)
class TableDigest:
    """How many rows a table has, and a SHA-256 over their values in the order of the primary key.

    It does not depend on the kind of database: equal rows give equal digests.
    """

    rows: int
    sha256: str


def move_store(
    source_url: str, target_url: str, progress: Advance = silent
) -> dict[str, TableDigest]:
    """Copy a store's database to another URL; the source stays as it is.

    Both schemas are brought up to date first. Images and masks are files and not part of this.

    Args:
        source_url: SQLAlchemy URL of a store's database.
        target_url: of an empty one, or of one that does not exist yet (SQLite).
        progress: told how many rows are copied, and of how many.

    Returns:
        The digest of every table, the same on both sides.

    Raises:
        CopyError: the target holds rows already, or what arrived differs.
    """
    for url in (source_url, target_url):
        upgrade(url)
    with _opened(source_url) as source, _opened(target_url) as target:
        return copy_tables(source, target, progress)


def copy_tables(
    source: Engine, target: Engine, progress: Advance = silent
) -> dict[str, TableDigest]:
    """Copy all rows, as one consistent reading and one transaction.

    Raises:
        CopyError: the target holds rows already, or what arrived differs.
    """
    writing = target.execution_options(refstar_write=True)
    with _snapshot(source) as reader, writing.begin() as writer:
        for table in _tables():
            if writer.scalar(select(func.count()).select_from(table)):
                shown = make_url(target.url).render_as_string()
                raise CopyError(
                    f"{shown} holds rows in {table.name} already: give an empty database"
                )
        total = sum(
            reader.scalar(select(func.count()).select_from(table)) or 0 for table in _tables()
        )
        progress(0, total)
        copied: dict[str, TableDigest] = {}
        done = 0
        for table in _tables():
            hasher = _Hasher()
            for batch in _batches(reader, table):
                hasher.add(batch)
                writer.execute(insert(table), [dict(row._mapping) for row in batch])
                done += len(batch)
                progress(done, total)
            copied[table.name] = hasher.digest()
            _go_on_counting(writer, table)
        arrived = digests(writer)
        if wrong := sorted(name for name in copied if copied[name] != arrived[name]):
            raise CopyError(
                f"what arrived in {', '.join(wrong)} differs from what was sent; "
                "nothing was kept: try again, and report it if it stays so"
            )
    return copied


def digests(connection: Connection) -> dict[str, TableDigest]:
    """The digest of every table of a store."""
    found = {}
    for table in _tables():
        hasher = _Hasher()
        for batch in _batches(connection, table):
            hasher.add(batch)
        found[table.name] = hasher.digest()
    return found


def _tables() -> list[Table]:
    """What is copied: all but the counts, which each database keeps by itself."""
    return [table for table in Base.metadata.sorted_tables if table is not RowCount.__table__]


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction in which every reading is of one moment, while others go on writing."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection


def _batches(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    query = select(table).order_by(*table.primary_key.columns)
    yield from connection.execute(query.execution_options(yield_per=BATCH)).partitions(BATCH)


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's next id come after the copied ones; SQLite does so by itself."""
    key = list(table.primary_key.columns)
    counted = len(key) == 1 and isinstance(key[0].type, Integer) and not key[0].foreign_keys
    if connection.dialect.name != "postgresql" or not counted:
        return
    sequence = connection.scalar(
        text("SELECT pg_get_serial_sequence(:table, :column)"),
        {"table": table.name, "column": key[0].name},
    )
    last = connection.scalar(select(func.max(key[0])))
    if sequence is not None and last is not None:
        connection.execute(
            text("SELECT setval(CAST(:sequence AS regclass), :last)"),
            {"sequence": sequence, "last": last},
        )


class _Hasher:
    def __init__(self) -> None:
        self._rows = 0
        self._sha256 = hashlib.sha256()

    def add(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            self._sha256.update(json.dumps(list(row), default=_plain, sort_keys=True).encode())
        self._rows += len(rows)

    def digest(self) -> TableDigest:
        return TableDigest(self._rows, self._sha256.hexdigest())


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no plain form")

"""`engine forget`: a person leaves the database, the images and the masks, and so the next export.

The database comes first, in one transaction: what hangs on the person's row is deleted, and the record
of the removal names what is still to be done. Then the files go that no other row names. Whatever stops
this, running it again goes on with what the record still names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Delete,
    Table,
    delete,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from dataset_engine.cold_start.landmarks import mesh_path
from dataset_engine.ingest_report import write_set_aside_list
from dataset_engine.progress import Advance, silent
from dataset_engine.shards.index import Index, versions
from dataset_engine.store import Store
from dataset_engine.store.blobs import Blobs, encode_mask_png
from dataset_engine.store.named_files import IMAGE_COLUMNS, MASK_COLUMNS
from dataset_engine.store.removals import new_removal, removals_of
from dataset_engine.store.reviews import lock
from dataset_engine.store.tables import (
    AnnotationProject,
    AnnotationTask,
    Base,
    Event,
    Identity,
    Image,
    Pair,
    Removal,
    RestorationInput,
    Round,
    SetAsideFile,
    now,
)

BATCH = 200
SIDE = 512
KINDS = {"images": IMAGE_COLUMNS, "masks": MASK_COLUMNS}


class UnknownPersonError(LookupError):
    """The store has nobody of this name, or several."""


@dataclass(frozen=True)
class Person:
    """Somebody whose pictures the store has.

    Attributes:
        source, name: as the store has them.
        identity_id: row of the identity, or None for a restoration input.
        input_id: row of the restoration input, or None for an identity.
    """

    source: str
    name: str
    identity_id: int | None = None
    input_id: int | None = None

    @property
    def called(self) -> str:
        """SOURCE/NAME, which names one person only."""
        return f"{self.source}/{self.name}"


@dataclass
class Forgotten:
    """What a removal did.

    Attributes:
        removal_id: the record's row.
        removed: rows of each kind that were deleted, and ``files``.
        shared: files that another person's rows name, so that they stay.
        scrubbed: whether the database's files keep nothing of deleted rows (see `Store.scrub`).
        tasks: what Label Studio still shows, as server, project, task and key of the pair.
    """

    removal_id: int
    removed: dict[str, Any]
    shared: int = 0
    scrubbed: bool = True
    tasks: Sequence[tuple[str, int, int, str]] = ()


def find_person(store: Store, called: str) -> Person | None:
    """The person whom ``SOURCE/NAME``, or ``NAME`` alone where that is enough, names.

    Returns:
        None where nobody is there any more, since the person was removed already.

    Raises:
        UnknownPersonError: there is nobody of this name, or there are several.
    """
    splits = [(called[:at], called[at + 1 :]) for at, sign in enumerate(called) if sign == "/"]
    with store.reading() as session:
        found = []
        for table in (Identity, RestorationInput):
            same = [(table.source == source) & (table.name == name) for source, name in splits]
            query = select(table.id, table.source, table.name).where(
                or_(table.name == called, *same)
            )
            for row, source, name in session.execute(query):
                rows = {"identity_id": row} if table is Identity else {"input_id": row}
                found.append(Person(source, name, **rows))
        if not found:
            if _record(session, called) is not None:
                return None
            raise UnknownPersonError(
                f"there is nobody called {called!r} here: give SOURCE/NAME, where SOURCE is the "
                "name of the folder or file that was ingested"
            )
    if len({person.called for person in found}) > 1:
        names = ", ".join(sorted({person.called for person in found})[:10])
        raise UnknownPersonError(f"{called!r} is the name of several people: give one of {names}")
    return found[0]


def forget(store: Store, called: str, progress: Advance = silent) -> Forgotten:
    """Remove a person; or finish what an earlier call began.

    Args:
        store: the store; others may go on working with it.
        called: see `find_person`.
        progress: told how many files are removed, and of how many.

    Raises:
        UnknownPersonError: see `find_person`.
    """
    person = find_person(store, called)
    if person is None:
        with store.reading() as session:
            removal = _record(session, called)
            assert removal is not None  # noqa: S101 - it was found a moment ago
            removal_id = removal.id
    else:
        removal_id = _remove_rows(store, person)
    shared = _remove_files(store, removal_id, progress)
    write_set_aside_list(store)
    scrubbed = store.scrub()
    with store.reading() as session:
        removal = session.get_one(Removal, removal_id)
        tasks = [(server, project, task, key) for server, project, task, key in removal.tasks]
        return Forgotten(removal_id, dict(removal.removed), shared, scrubbed, tasks)


def tasks_are_gone(store: Store, removal_id: int, keys: Iterable[str]) -> None:
    """Note that Label Studio shows these pairs no longer."""
    gone = set(keys)
    with store.writing() as session:
        removal = session.get_one(Removal, removal_id)
        removal.tasks = [task for task in removal.tasks if task[3] not in gone]


def versions_with(called: str, out: Path) -> Iterator[Path]:
    """The published versions in a folder that hold a person's pictures.

    Args:
        called: SOURCE/NAME.
        out: what `engine export` wrote.

    Raises:
        ShardError: the index of a version is damaged.
    """
    for version in versions(out):
        shards = Index(out / version).shards()
        if any(sample.identity == called for shard in shards for sample in shard.samples):
            yield out / version


def _record(session: Session, called: str) -> Removal | None:
    """The newest removal of whoever is called so, with or without the source."""
    sources = set(session.scalars(select(Identity.source).distinct()))
    sources |= set(session.scalars(select(RestorationInput.source).distinct()))
    for name in (called, *(f"{source}/{called}" for source in sorted(sources))):
        if found := removals_of(session, name):
            return found[0]
    return None


def _remove_rows(store: Store, person: Person) -> int:
    """Delete all rows of a person; what is then still to be done is in the record's row."""
    tables = list(reversed(Base.metadata.sorted_tables))
    where: dict[Table, ColumnElement[bool]] = {}
    for table in reversed(tables):
        if (rows := _rows_of(table, person, where)) is not None:
            where[table] = rows
    with store.writing() as session:
        if person.identity_id is not None:
            identity = session.get_one(Identity, person.identity_id)
            identity.leaving = True
            pairs = select(Pair.id).where(Pair.identity_id == identity.id).order_by(Pair.id)
            lock(session, *session.scalars(pairs))  # nobody decides on them meanwhile
            session.flush()
        removal = new_removal(person.source, person.name)
        removal.files = [
            f"{kind}/{sha256}"
            for kind, columns in KINDS.items()
            for sha256 in sorted(_named(session, columns, where))
        ]
        removal.tasks = _tasks(session, person)
        removed = {"set_aside": _remove_set_aside(session, person)}
        for table in tables:
            if table in where:
                removed[table.name] = _delete(session, delete(table).where(where[table]))
        removal.removed = removed
        session.add(removal)
        # SQLite gives the number of a deleted last row to the next one
        newest = session.scalar(select(func.max(Event.id))) or 0
        session.execute(
            update(Round).where(Round.last_event_id > newest).values(last_event_id=newest)
        )
        session.flush()
        return removal.id


def _rows_of(
    table: Table, person: Person, where: dict[Table, ColumnElement[bool]]
) -> ColumnElement[bool] | None:
    """A table's rows that hang on the person's own; None where none can.

    A row hangs on those that it cannot be without.
    """
    own = {
        Identity.__tablename__: person.identity_id,
        RestorationInput.__tablename__: person.input_id,
    }
    if table.name in own:
        return None if own[table.name] is None else table.c.id.in_([own[table.name]])
    parents = [
        column.in_(select(key.column).where(where[key.column.table]))
        for column in table.columns
        for key in column.foreign_keys
        if not column.nullable and key.column.table in where
    ]
    return or_(false(), *parents) if parents else None


def _named(
    session: Session,
    columns: Sequence[InstrumentedAttribute[Any]],
    where: dict[Table, ColumnElement[bool]],
) -> set[str]:
    """The files that a person's rows name."""
    found: set[str | None] = set()
    for column in columns:
        if (rows := where.get(column.class_.__table__)) is not None:
            found |= set(session.scalars(select(column).where(rows)))
    return {sha256 for sha256 in found if sha256}


def _tasks(session: Session, person: Person) -> list[list[Any]]:
    query = (
        select(AnnotationProject.server, AnnotationProject.project, AnnotationTask.task, Pair.key)
        .join(AnnotationTask, AnnotationTask.project_id == AnnotationProject.id)
        .join(Pair, Pair.id == AnnotationTask.pair_id)
        .where(Pair.identity_id == person.identity_id)
        .order_by(AnnotationTask.id)
    )
    return [list(row) for row in session.execute(query)]


def _remove_set_aside(session: Session, person: Person) -> int:
    """Delete the notes on files of the person's folder, and on copies of the person's images."""
    names = session.scalars(select(Image.name).where(Image.identity_id == person.identity_id))
    told = [
        SetAsideFile.path.contains(f"/{person.called}/", autoescape=True),
        SetAsideFile.path.endswith(f"/{person.called}", autoescape=True),
        *(SetAsideFile.detail.endswith(f" {name}", autoescape=True) for name in names),
    ]
    count = 0
    for start in range(0, len(told), BATCH):
        some = or_(*told[start : start + BATCH])
        count += _delete(session, delete(SetAsideFile).where(some))
    return count


def _delete(session: Session, statement: Delete) -> int:
    return session.connection().execute(statement).rowcount


def _remove_files(store: Store, removal_id: int, progress: Advance) -> int:
    """Delete the files that the record names and that no row names; gives how many stay."""
    with store.reading() as session:
        files: list[str] = list(session.get_one(Removal, removal_id).files)
    blobs: dict[str, Blobs] = {"images": store.images, "masks": store.masks}
    shared = 0
    progress(0, len(files))
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        with store.writing() as session:
            removal = session.get_one(Removal, removal_id)
            gone = 0
            for kind, columns in KINDS.items():
                ours = {name.partition("/")[2] for name in batch if name.startswith(f"{kind}/")}
                keep = _still_named(session, columns, ours)
                shared += len(keep)
                for sha256 in sorted(ours - keep):
                    blobs[kind].path(sha256).unlink(missing_ok=True)
                    mesh_path(store.home, sha256).unlink(missing_ok=True)
                    gone += 1
            removal.removed = {
                **removal.removed,
                "files": removal.removed.get("files", 0) + gone,
            }
            removal.files = files[start + BATCH :]
        progress(start + len(batch), len(files))
    with store.writing() as session:
        removal = session.get_one(Removal, removal_id)
        removal.finished_at = removal.finished_at or now()
    return shared


def _still_named(
    session: Session, columns: Sequence[InstrumentedAttribute[Any]], hashes: set[str]
) -> set[str]:
    # a mask without a pixel tells of nobody, and anybody may be storing it at this moment
    empty = encode_mask_png(np.zeros((SIDE, SIDE), bool))
    kept = {hashlib.sha256(empty).hexdigest()} & hashes
    for column in columns:
        kept |= set(session.scalars(select(column).where(column.in_(hashes))))
    return kept

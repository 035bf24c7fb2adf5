"""The list of pairs that a cluster works on: JSON lines or Parquet, written by the store or by anyone.

Each row has the text columns `key`, `gt`, `reference` and `region`: the pair's key, and where its two
aligned images and the reference's face region lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import fsspec
import pyarrow as pa
from pyarrow import parquet

from dataset_engine.cluster.locations import written_whole
from dataset_engine.pair_images import PairFiles
from dataset_engine.store import Store
from dataset_engine.store.queries import undecided
from dataset_engine.stored_pairs import pair_files

COLUMNS = ("key", "gt", "reference", "region")
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
ROWS = 1024


class PairListError(ValueError):
    """A list of pairs that cannot be used; the message names the file, the row and the mend."""


def list_undecided(store: Store, model_version: str, *, files_at: str = "") -> Iterator[PairFiles]:
    """Pairs that nobody has decided on and that have no proposal of a model version.

    Args:
        store: the store.
        model_version: the version that will propose.
        files_at: where the home's files are to be found by the workers, as a path or URL, when that is
            not the home itself: ``s3://bucket/home`` after copying `images` and `masks` there.
    """
    for pair in undecided(store, without_model=model_version):
        files = pair_files(store, pair)
        if not files_at:
            yield files
            continue
        moved = [
            f"{files_at.rstrip('/')}/{path.relative_to(store.home).as_posix()}"
            for path in (files.gt, files.reference, files.region)
            if not isinstance(path, str)
        ]
        yield PairFiles(files.key, *moved)


def write_pair_list(pairs: Iterable[PairFiles], location: str) -> int:
    """Write a list as Parquet (``.parquet``) or JSON lines (any other name); returns its length."""
    rows = ({name: str(getattr(pair, name)) for name in COLUMNS} for pair in pairs)
    count = 0
    with written_whole(location) as file:
        if location.endswith(".parquet"):
            return write_rows(rows, file, ROWS)
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def write_rows(rows: Iterator[dict[str, str]], file: IO[bytes], group: int) -> int:
    """Write rows as Parquet with `group` of them in each row group; returns how many there were."""
    count = 0
    with parquet.ParquetWriter(file, SCHEMA) as writer:
        while chunk := list(islice(rows, group)):
            writer.write_table(pa.Table.from_pylist(chunk, SCHEMA), row_group_size=group)
            count += len(chunk)
    return count


def read_pair_list(location: str) -> Iterator[dict[str, str]]:
    """The rows of a list, read a few at a time.

    Raises:
        PairListError: a row lacks a column, has an empty one, or is no JSON object.
    """
    parquet_file = location.endswith(".parquet")
    with fsspec.open(location, "rb") as file:
        for number, row in enumerate(_parquet(file, location) if parquet_file else file, start=1):
            yield _checked(row, f"{location}, row {number}")


def _parquet(file: IO[bytes], location: str) -> Iterator[dict[str, Any]]:
    try:
        opened = parquet.ParquetFile(file)
    except pa.ArrowException as error:
        raise PairListError(f"{location} is no Parquet file ({error}); write it again") from error
    for batch in opened.iter_batches(batch_size=ROWS):
        yield from batch.to_pylist()


def _checked(row: object, where: str) -> dict[str, str]:
    if isinstance(row, bytes):
        try:
            row = json.loads(row)
        except ValueError as error:
            raise PairListError(f"{where}: not JSON ({error}); one object a line") from None
    if not isinstance(row, dict):
        raise PairListError(f"{where}: not an object with {', '.join(COLUMNS)}")
    for name in COLUMNS:
        if not isinstance(row.get(name), str) or not row[name]:
            raise PairListError(f"{where}: {name!r} is missing or no text")
    return {name: row[name] for name in COLUMNS}

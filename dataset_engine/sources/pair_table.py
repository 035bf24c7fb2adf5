"""The rows of a CSV file of pairs; whatever is wrong with one is told by its line.

The columns are ``gt`` and ``reference``, and if need be ``identity`` and ``split``. Paths are relative
to the file.
"""

from __future__ import annotations

import csv
import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from dataset_engine.ingest_files import Left, printable
from dataset_engine.taxonomy import Split

REQUIRED = ("gt", "reference")
OPTIONAL = ("identity", "split")
LONGEST_LINE = 65_536
"""Characters; a longer line is read in pieces, so that no file can fill the memory."""
LONGEST_NAME = 255


class PairTableError(ValueError):
    """A file that is no table of pairs."""


@dataclass(frozen=True)
class Row:
    """One pair that the file asks for.

    Attributes:
        place: the file and the line, for people.
        gt: the ground truth's path, relative to the file.
        reference: the reference's.
        identity: the person's name; empty where it is not said.
        split: where the person is used; None where it is not said.
    """

    place: Path
    gt: str
    reference: str
    identity: str
    split: Split | None


def read_rows(path: Path) -> Iterator[Row | Left]:
    """All rows in their order, one at a time.

    Raises:
        PairTableError: the header lacks a column, or has one that is unknown or there twice.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        reader = csv.reader(iter(lambda: file.readline(LONGEST_LINE), ""))
        header = _header(path, reader)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _bad(path, reader.line_num, str(error))
                continue
            if any(cell.strip() for cell in cells):
                try:
                    yield _row(path, reader.line_num, header, cells)
                except ValueError as error:
                    yield _bad(path, reader.line_num, str(error))


def count_lines(path: Path) -> int:
    """How many lines a file has, about as many as rows."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = [cell.strip().lower() for cell in next(reader, [])]
    except csv.Error as error:
        raise PairTableError(f"{path}: its first line is no header: {error}") from error
    expected = f"the columns are {', '.join(REQUIRED)} and, if need be, {', '.join(OPTIONAL)}"
    if missing := [name for name in REQUIRED if name not in names]:
        raise PairTableError(f"{path}: the first line lacks {' and '.join(missing)}: {expected}")
    unknown = [printable(name) for name in names if name not in REQUIRED + OPTIONAL]
    if unknown or len(set(names)) < len(names):
        wrong = f"{', '.join(unknown)[:200]!r} is unknown" if unknown else "a column is there twice"
        raise PairTableError(f"{path}: {wrong}: {expected}")
    return names


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    """The row of a line; ValueError says what is wrong with it."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns")
    fields = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    gt, reference = (_relative(name, fields[name]) for name in REQUIRED)
    if gt == reference:
        raise ValueError("gt and reference are the same file")
    identity = fields.get("identity", "")
    if len(identity) > LONGEST_NAME or not identity.isprintable():
        raise ValueError(f"identity is no name of at most {LONGEST_NAME} characters")
    split = fields.get("split", "").lower()
    if split and split not in tuple(Split):
        raise ValueError(f"split {printable(split)[:40]!r} is none of {', '.join(Split)}")
    place = Path(f"{path}:{line}")
    return Row(place, gt, reference, identity, Split(split) if split else None)


def _relative(name: str, text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"{name} names no file")
    if PurePath(text).is_absolute():
        raise ValueError(f"the path of {name} has to be relative to the file")
    return os.path.normpath(text)


def _bad(path: Path, line: int, detail: str) -> Left:
    return Left(Path(f"{path}:{line}"), "bad_row", f"line {line}: {detail}")

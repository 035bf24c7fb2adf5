"""Table 1 anew: what was measured here, and the paper's figures where nothing was."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from restoration.evaluate_methods.intervals import Interval, mean_interval
from restoration.evaluate_methods.quoted import REAL, SYNTHETIC, paper
from restoration.evaluate_methods.result_folders import INPUT
from restoration.metrics import Metric, Scores

DECIMALS: Final = {Metric.LPIPS: 3, Metric.SSIM: 3}
LOWER_IS_BETTER: Final = frozenset({Metric.LPIPS, Metric.FID, Metric.COLOUR})
BESIDE: Final = (Metric.SSIM, Metric.FACE_PSNR, Metric.COLOUR)
"""Measured besides what Table 1 has."""


class TestSet(StrEnum):
    """The table's two halves."""

    __test__ = False

    SYNTHETIC = "Celeb-Ref-Test"
    REAL = "Real-World-Test"


COLUMNS: Final = tuple(
    [(TestSet.SYNTHETIC, metric) for metric in SYNTHETIC]
    + [(TestSet.REAL, metric) for metric in REAL]
)
Column = tuple[TestSet, Metric]


@dataclass(frozen=True)
class TableCell:
    """One number of the table."""

    value: float | None
    quoted: bool = False
    interval: Interval | None = None
    faces: int = 0
    """How many faces it was measured on; 0 for a quoted one."""
    missing: str = ""
    """Why there is no value."""
    rank: int = 0
    """1 best, 2 second best, 0 neither: of the measured and of the quoted values separately."""

    def text(self, metric: Metric) -> str:
        """The value alone."""
        return "-" if self.value is None else f"{self.value:.{DECIMALS.get(metric, 2)}f}"


@dataclass(frozen=True)
class TableRow:
    """One method."""

    name: str
    reference: bool | None
    """Whether it sees a reference; None for a method that the paper does not have."""
    kind: str
    cells: Mapping[Column, TableCell]


def build_table(
    measured: Mapping[TestSet, Mapping[str, Scores]], seed: int
) -> tuple[tuple[TableRow, ...], tuple[Column, ...]]:
    """Rows in the paper's order, the degraded input before and other methods behind them.

    A cell of a method that was measured on a test set is measured, or says why it could not be; never is
    a quoted figure put in its place.

    Args:
        measured: each test set's scores by method.
        seed: of the intervals.

    Returns:
        The rows, and the columns: Table 1's, then those besides of each measured set.
    """
    quoted = paper()
    columns = [*COLUMNS]
    columns += [(TestSet.SYNTHETIC, one) for one in BESIDE if measured.get(TestSet.SYNTHETIC)]
    given = dict.fromkeys(name for scores in measured.values() for name in scores)
    known = {quoted.name_of(name): name for name in given if quoted.name_of(name) is not None}
    rows = []
    for title in ([INPUT] if INPUT in given else []) + list(quoted.methods):
        method = quoted.methods.get(title)
        cells = _cells(known.get(title, title), measured, columns, seed)
        for test_set, metrics, figures in (
            (TestSet.SYNTHETIC, SYNTHETIC, () if method is None else method.synthetic),
            (TestSet.REAL, REAL, () if method is None else method.real),
        ):
            for metric, value in zip(metrics, figures, strict=False):
                cells.setdefault((test_set, metric), TableCell(value, quoted=True))
        kind = "" if method is None else method.kind
        rows.append(TableRow(title, None if method is None else method.reference, kind, cells))
    others = [name for name in given if name != INPUT and quoted.name_of(name) is None]
    rows += [TableRow(name, None, "", _cells(name, measured, columns, seed)) for name in others]
    return tuple(_ranked(rows, columns)), tuple(columns)


def heading(column: Column) -> str:
    """A metric and which way is better, as Table 1 writes it."""
    metric = column[1]
    return f"{metric}{'↓' if metric in LOWER_IS_BETTER else '↑'}"


def as_markdown(
    rows: Sequence[TableRow], columns: Sequence[Column], notes: Sequence[str] = ()
) -> str:
    """The table; quoted figures are in italics with a q, the best bold, the second underlined."""
    heads = ["method", *(f"{_short(one[0])} {heading(one)}" for one in columns)]
    lines = [heads, ["---", *["--:"] * len(columns)]]
    for row in rows:
        cells = [_marked(row.cells.get(column, TableCell(None)), column[1]) for column in columns]
        lines.append([row.name, *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    legend = (
        "**best** and <u>second</u> are told apart among what was measured here, and separately among "
        f"what is quoted. *italic q*: quoted from {' '.join(paper().source.split())}; other inputs, "
        "other code: not to be compared with measured figures. ±: half of the 95 % bootstrap interval."
    )
    listed = "\n".join(f"- {note}" for note in notes)
    return f"{table}\n\n{legend}\n" + (f"\n{listed}\n" if listed else "")


def as_csv(rows: Sequence[TableRow]) -> str:
    """One line a cell, with where it is from."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["test set", "method", "metric", "value", "source", "low", "high", "faces", "missing"]
    )
    for row in rows:
        for (test_set, metric), cell in row.cells.items():
            ends = ("", "") if cell.interval is None else (cell.interval.low, cell.interval.high)
            source = "quoted" if cell.quoted else "measured"
            value = "" if cell.value is None else cell.value
            faces = "" if cell.quoted else cell.faces
            writer.writerow([test_set, row.name, metric, value, source, *ends, faces, cell.missing])
    return out.getvalue()


def as_json(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Plain values, one entry a cell."""
    return [
        {
            "test set": str(test_set),
            "method": row.name,
            "metric": str(metric),
            "value": cell.value,
            "source": "quoted" if cell.quoted else "measured",
            "interval": None if cell.interval is None else [cell.interval.low, cell.interval.high],
            "faces": None if cell.quoted else cell.faces,
            "missing": cell.missing,
            "rank": cell.rank,
        }
        for row in rows
        for (test_set, metric), cell in row.cells.items()
    ]


def _cells(
    name: str,
    measured: Mapping[TestSet, Mapping[str, Scores]],
    columns: Sequence[Column],
    seed: int,
) -> dict[Column, TableCell]:
    cells = {}
    for test_set, metric in columns:
        scores = measured.get(test_set, {}).get(name)
        if scores is None:
            continue
        cell = scores.cells[metric]
        interval = mean_interval(list(cell.per_face.values()), seed)
        cells[test_set, metric] = TableCell(cell.value, False, interval, cell.faces, cell.missing)
    return cells


def _ranked(rows: Sequence[TableRow], columns: Sequence[Column]) -> list[TableRow]:
    ranks: dict[tuple[str, Column], int] = {}
    for column in columns:
        for quoted in (False, True):
            values = {
                row.name: cell.value
                for row in rows
                if row.name != INPUT
                and (cell := row.cells.get(column)) is not None
                and cell.quoted is quoted
                and cell.value is not None
                and not math.isnan(cell.value)
            }
            if len(values) < 2:
                continue
            order = sorted(set(values.values()), reverse=column[1] not in LOWER_IS_BETTER)
            for name, value in values.items():
                place = order.index(value) + 1
                ranks[name, column] = place if place <= 2 else 0
    return [
        replace(
            row,
            cells={
                column: replace(cell, rank=ranks.get((row.name, column), 0))
                for column, cell in row.cells.items()
            },
        )
        for row in rows
    ]


def _marked(cell: TableCell, metric: Metric) -> str:
    text = cell.text(metric)
    if cell.interval is not None and cell.value is not None:
        half = (cell.interval.high - cell.interval.low) / 2
        text += f" ±{half:.{DECIMALS.get(metric, 2)}f}"
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    return f"*{text} q*" if cell.quoted else text


def _short(test_set: TestSet) -> str:
    return "syn." if test_set is TestSet.SYNTHETIC else "real"

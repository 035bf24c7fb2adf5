"""Table 1 on a terminal of 80 columns, one table for each test set."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from restoration.evaluate_methods.table_one import (
    COLUMNS,
    Column,
    TableCell,
    TableRow,
    TestSet,
    heading,
)

STYLES = {0: "", 1: "bold green", 2: "underline"}


def evaluation_tables(rows: Sequence[TableRow], columns: Sequence[Column]) -> list[Table]:
    """A table for each half, and one of what was measured besides; quoted figures carry a q."""
    besides = [column for column in columns if column not in COLUMNS]
    tables = [
        _table(str(test_set), rows, [one for one in COLUMNS if one[0] is test_set])
        for test_set in TestSet
    ]
    return tables + ([_table("Measured besides", rows, besides)] if besides else [])


def _table(title: str, rows: Sequence[TableRow], columns: Sequence[Column]) -> Table:
    caption = "bold: best, underlined: second (measured and quoted apart); q: quoted from the paper"
    table = Table(title=title, caption=caption, padding=(0, 0, 0, 1))
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(heading(column), justify="right", no_wrap=True)
    for row in rows:
        cells = [row.cells.get(column, TableCell(None)) for column in columns]
        if any(cell.value is not None or cell.missing for cell in cells):
            shown = [_text(cell, column) for cell, column in zip(cells, columns, strict=True)]
            table.add_row(row.name, *shown)
    return table


def _text(cell: TableCell, column: Column) -> Text:
    style = f"{STYLES[cell.rank]} {'dim' if cell.quoted else ''}".strip()
    return Text(cell.text(column[1]) + (" q" if cell.quoted else ""), style=style)

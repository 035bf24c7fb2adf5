"""What `engine quality` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dataset_engine.reports import share
from dataset_engine.store.quality import EVERY, QualityReport, QualityRow


def quality_tables(report: QualityReport) -> RenderableType:
    """Annotators against gold answers and against each other; what is under a threshold is marked."""
    parts: list[RenderableType] = []
    for title, rows in (
        (f"answers to gold tasks ({report.gold_answers} pairs are gold)", report.gold),
        ("answers to pairs that two annotators were given", report.agreement),
    ):
        if rows:
            parts += [_table(f"{title}, by annotator", "annotator", _people(rows), report)]
            parts += [_table(f"{title}, by scenario", "scenario", _scenarios(rows), report)]
        else:
            parts.append(f"{title}: none yet")
    parts.append(
        f"{report.adjudicate} pairs wait for a third person's word (status adjudicate on /review)"
        if report.adjudicate
        else "no pair waits for a third person's word"
    )
    parts.append(
        f"[yellow]![/] is under IoU {report.least_iou:g} (REFSTAR_AGREEMENT_IOU) or kappa "
        f"{report.least_kappa:g} (REFSTAR_AGREEMENT_KAPPA)"
    )
    return Group(*parts)


def _people(rows: Iterable[QualityRow]) -> list[tuple[str, QualityRow]]:
    return [(row.annotator, row) for row in rows if row.scenario == EVERY]


def _scenarios(rows: Iterable[QualityRow]) -> list[tuple[str, QualityRow]]:
    return [(row.scenario, row) for row in rows if row.annotator == EVERY]


def _table(
    title: str, head: str, rows: list[tuple[str, QualityRow]], report: QualityReport
) -> RenderableType:
    table = Table(head, title=title, title_justify="left")
    for name in ("answers", "same", "IoU", "conflict IoU", "boundary F", "kappa"):
        table.add_column(name, justify="right")
    for name, row in rows:
        table.add_row(
            escape(name),
            str(row.answers),
            share(row.agreed / row.answers),
            _marked(row.iou, report.least_iou),
            share(row.conflict_iou),
            share(row.boundary_f),
            _marked(row.kappa, report.least_kappa),
        )
    return table


def _marked(value: float | None, least: float) -> str:
    mark = "[yellow]![/] " if value is not None and value < least else ""
    return f"{mark}{share(value)}"

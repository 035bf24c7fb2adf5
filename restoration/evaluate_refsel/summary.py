"""The tables of a test of RefSel: by scenario, by severity, for severe inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, Literal

from rich.table import Table

from dataset_engine.shards import Scenario
from models.metrics import Scores, mean_of_defined, summarise, summarise_all_ones
from restoration.evaluate_refsel.measures import Measured, Reliability
from restoration.refsel_evaluation import Row as ScoreRow
from restoration.refsel_evaluation import cells, percent

PAPER_ACCURACY = {
    Scenario.MOUTH: 0.90,
    Scenario.EYES: 0.90,
    Scenario.WRINKLES: 0.86,
    Scenario.BEARD: 0.94,
    Scenario.GLASSES_PATTERNS: 0.82,
}
"""Table 3, on the authors' own pairs: quoted for orientation, not measured here."""
SEVERITY_BINS = 5


@dataclass(frozen=True)
class Row(ScoreRow):
    """Scores of one group of inputs, the all-ones mask's beside them.

    `boundary_f` is a mean over pairs in [0, 1]; NaN for an empty group.
    """

    boundary_f: float


@dataclass(frozen=True)
class SeverityRow:
    """A fifth of the inputs by how much detail they keep, from `least` to `most` in [0, 1]."""

    least: float
    most: float
    row: Row


@dataclass(frozen=True)
class Summary:
    """Everything that the page shows.

    `scenarios` has a row for each scenario with pairs; `mean` averages their scores, as the last
    column of Table 3 does. `severe` is of inputs that were drawn until they were severe.
    """

    scenarios: tuple[Row, ...]
    everything: Row
    severe: Row
    by_severity: tuple[SeverityRow, ...]
    reliability: Reliability
    threshold: float

    def mean(self, score: str) -> float:
        """Mean of a field of `Scores`, or of ``boundary_f``, over the scenarios that have it."""
        return mean_of_defined(_score(row, score) for row in self.scenarios)

    def mean_of_all_ones(self, score: str) -> float:
        """The same mean for the all-ones mask."""
        return mean_of_defined(float(getattr(row.all_ones, score)) for row in self.scenarios)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not defined is NaN."""
        names = [name for name in Scores.__dataclass_fields__ if name != "pairs"]
        return {
            "threshold": self.threshold,
            "scenarios": [asdict(row) for row in self.scenarios],
            "mean_of_scenarios": {name: self.mean(name) for name in (*names, "boundary_f")},
            "everything": asdict(self.everything),
            "severe": asdict(self.severe),
            "by_severity": [asdict(one) for one in self.by_severity],
            "expected_calibration_error": self.reliability.expected_error,
        }


def summarise_test(
    measured: Sequence[Measured], severe: Sequence[Measured], threshold: float
) -> Summary:
    """Group what was measured.

    Args:
        measured: of the protocol's cases.
        severe: of inputs that are severe.
        threshold: at which p was binarised.

    Raises:
        ValueError: there are no cases.
    """
    if not measured:
        raise ValueError(
            "none of the test pairs has a conflict of the five scenarios: "
            "review more pairs of test identities and export again"
        )
    by_detail = sorted(measured, key=lambda one: one.detail_kept)
    bounds = [round(i * len(by_detail) / SEVERITY_BINS) for i in range(SEVERITY_BINS + 1)]
    parts = [by_detail[a:b] for a, b in pairwise(bounds) if a < b]
    present = [name for name in Scenario if any(one.scenario is name for one in measured)]
    return Summary(
        scenarios=tuple(
            _row(name, [one for one in measured if one.scenario is name]) for name in present
        ),
        everything=_row("all pairs", measured),
        severe=_row("severe inputs", severe),
        by_severity=tuple(
            SeverityRow(part[0].detail_kept, part[-1].detail_kept, _row("", part)) for part in parts
        ),
        reliability=reduce(add, (one.reliability for one in measured)),
        threshold=threshold,
    )


def summary_table(summary: Summary) -> Table:
    """The scenarios' table for a terminal of 80 columns; all numbers in percent."""
    caption = (
        "acc: accuracy in the face region as in Table 3; ones: the all-ones mask; recall, prec, "
        "c-IoU: of the conflict; bF: F-score of the border; all in %"
    )
    table = Table(title="RefSel on test identities", caption=caption, padding=(0, 0, 0, 1))
    headings = ("scenario", "pairs", "acc", "ones", "IoU", "ones", "recall", "prec", "c-IoU", "bF")
    for heading in headings:
        justify: Literal["left", "right"] = "left" if heading == "scenario" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in summary.scenarios:
        table.add_row(*_cells(row))
    table.add_section()
    values = (
        summary.mean("accuracy"),
        summary.mean_of_all_ones("accuracy"),
        summary.mean("iou"),
        summary.mean_of_all_ones("iou"),
        summary.mean("conflict_recall"),
        summary.mean("conflict_precision"),
        summary.mean("conflict_iou"),
        summary.mean("boundary_f"),
    )
    table.add_row("mean of scenarios", "", *map(percent, values), style="bold")
    table.add_row(*_cells(summary.everything))
    table.add_row(*_cells(summary.severe))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    return (*cells(row), percent(row.boundary_f))


def _row(name: str, measured: Sequence[Measured]) -> Row:
    confusions = [one.confusion for one in measured]
    return Row(
        name,
        summarise(confusions),
        summarise_all_ones(confusions),
        mean_of_defined(one.boundary_f for one in measured),
    )


def _score(row: Row, name: str) -> float:
    return row.boundary_f if name == "boundary_f" else float(getattr(row.scores, name))

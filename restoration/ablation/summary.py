"""The table of an ablation: mean and spread over seeds, and the paper's findings held against it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from restoration.ablation.measures import MEASURES, Measures
from restoration.ablation.rows import Row

HEADINGS = {
    "marks": "marks",
    "contrast": "their contrast",
    "like_truth": "like truth",
    "like_reference": "like reference",
    "glasses": "glasses",
    "psnr": "PSNR, dB",
}
DECIMALS = {"psnr": 2}


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the sample's standard deviation (NaN for one seed)."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a seed; NaNs are left out."""
        defined = [value for value in values if not math.isnan(value)]
        mean = statistics.fmean(defined) if defined else math.nan
        return cls(mean, statistics.stdev(defined) if len(defined) > 1 else math.nan)

    def text(self, decimals: int) -> str:
        """As a cell."""
        if math.isnan(self.mean):
            return "-"
        spread = "" if math.isnan(self.deviation) else f" ±{self.deviation:.{decimals}f}"
        return f"{self.mean:.{decimals}f}{spread}"


@dataclass(frozen=True)
class RowResult:
    """One row of the table."""

    row: Row
    seeds: tuple[Measures, ...]
    steps: int
    seconds_a_step: float

    def spread(self, measure: str) -> Spread:
        """Mean and spread of a measure."""
        return Spread.of([getattr(one, measure) for one in self.seeds])

    def cells(self) -> list[str]:
        """The row as text."""
        return [self.spread(name).text(DECIMALS.get(name, 3)) for name in MEASURES]


@dataclass(frozen=True)
class Finding:
    """One of the paper's findings: by how much the favoured row leads the best of the others.

    `margin` is positive where the miniature agrees; it is clear if it exceeds the spread of both.
    """

    text: str
    margin: float
    spread: float

    @property
    def verdict(self) -> str:
        """In words."""
        if math.isnan(self.margin):
            return "not measured"
        if not math.isnan(self.spread) and abs(self.margin) <= self.spread:
            return "undecided: within the spread over seeds"
        return "agrees" if self.margin > 0 else "disagrees"

    @property
    def line(self) -> str:
        """The finding, the verdict and the lead."""
        lead = "" if math.isnan(self.margin) else f" ({self.margin:+.3f})"
        return f"{self.text}: {self.verdict}{lead}"


def findings(results: Mapping[Row, RowResult]) -> tuple[Finding, ...]:
    """The paper's findings on Table 2, held against the rows that there are."""
    without = (Row.ALL_ZEROS, Row.NO_CYCLE, Row.NO_CYCLE_LONGER, Row.CONCATENATED)
    others = (*without, Row.ALL_ONES)
    every = [
        _lead(
            results, "like_truth", Row.FULL, others, "the full model is most like the truth (ID-GT)"
        ),
        _lead(
            results, "glasses", Row.ALL_ONES, (Row.FULL, *without), "all ones leaks glasses most"
        ),
        _lead(
            results,
            "like_reference",
            Row.ALL_ONES,
            (Row.FULL, *without),
            "all ones is most like the reference (ID-Ref)",
        ),
    ]
    every += [
        _lead(results, "marks", Row.FULL, (row,), f"{row.heading}: fewer marks come back")
        for row in without
    ]
    return tuple(every)


def ablation_table(results: Mapping[Row, RowResult], title: str) -> Table:
    """For a terminal of 80 columns: spreads stand below their means."""
    table = Table(title=title, padding=(0, 1, 0, 0))
    table.add_column("row", min_width=10)
    for name in MEASURES:
        table.add_column(HEADINGS[name].replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("s a\nstep", justify="right", no_wrap=True)
    for result in results.values():
        cells = (cell.replace(" ", "\n") for cell in result.cells())
        ends = (f"{result.steps:,}", f"{result.seconds_a_step:.2f}")
        table.add_row(result.row.heading, *cells, *ends)
    return table


def as_markdown(results: Mapping[Row, RowResult]) -> str:
    """Table and findings in Markdown."""
    heads = ["row", *(HEADINGS[name] for name in MEASURES), "steps", "s a step"]
    lines = [heads, ["---"] * len(heads)]
    lines += [
        [one.row.heading, *one.cells(), f"{one.steps:,}", f"{one.seconds_a_step:.2f}"]
        for one in results.values()
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    verdicts = "\n".join(f"- {one.line}" for one in findings(results))
    about = "The paper's findings in this miniature (lead, in the table's units):"
    return f"{table}\n\n{about}\n\n{verdicts}\n"


def as_json(results: Mapping[Row, RowResult]) -> dict[str, Any]:
    """Plain values: every seed's measures too."""
    rows = {
        row.value: {
            "title": row.heading,
            "steps": one.steps,
            "seconds a step": one.seconds_a_step,
            "seeds": [asdict(each) for each in one.seeds],
            "mean": {name: one.spread(name).mean for name in MEASURES},
            "deviation": {name: one.spread(name).deviation for name in MEASURES},
        }
        for row, one in results.items()
    }
    held = [asdict(one) | {"verdict": one.verdict} for one in findings(results)]
    return {"rows": rows, "findings": held}


def _lead(
    results: Mapping[Row, RowResult], measure: str, leader: Row, others: Sequence[Row], text: str
) -> Finding:
    present = [row for row in others if row in results]
    if leader not in results or not present:
        return Finding(text, math.nan, math.nan)
    first = results[leader].spread(measure)
    rival = max((results[row].spread(measure) for row in present), key=lambda one: one.mean)
    return Finding(text, first.mean - rival.mean, math.hypot(first.deviation, rival.deviation))

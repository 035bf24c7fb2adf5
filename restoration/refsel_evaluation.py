"""RefSel measured as in Table 3, with what accuracy hides beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from dataset_engine.degradation import DegradationSettings
from dataset_engine.shards import Scenario
from dataset_engine.shards.prefetch import prefetch
from dataset_engine.shards.stream import example_seed
from models.metrics import Confusion, Scores, mean_of_defined, summarise, summarise_all_ones
from models.refsel import RefSel
from restoration.refsel_answers import answers
from restoration.refsel_data import Example, Samples, make_example

BINS = 200
ABOUT = 0.005  # differences of conflict IoU that are chance
THRESHOLDS = (np.arange(1, BINS) / BINS).astype(np.float64)


@dataclass(frozen=True)
class Judged:
    """One example with RefSel's probability float32[H, W] for it."""

    example: Example
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """Scores of one group of pairs, and of the all-ones mask on the same pairs."""

    name: str
    scores: Scores
    all_ones: Scores


@dataclass(frozen=True)
class Evaluation:
    """A row for each scenario that has pairs, their mean, and the severe inputs by themselves.

    `best_threshold` has about the highest conflict IoU over all pairs; calibrate with it on
    the validation split only.
    """

    scenarios: tuple[Row, ...]
    everything: Row
    severe: Row
    threshold: float
    best_threshold: float

    def mean(self, score: str) -> float:
        """Mean of a field of `Scores` over the scenarios that have it, as in Table 3's last column."""
        return mean_of_defined(float(getattr(row.scores, score)) for row in self.scenarios)


def judge(
    model: RefSel,
    samples: Samples,
    degradation: DegradationSettings,
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Judged]:
    """RefSel's answer on every triplet, degraded by a seed that depends on (seed, number) alone."""

    def make(index: int) -> Example:
        return make_example(samples[index], example_seed(seed, 0, index), degradation)

    examples = prefetch(make, range(len(samples)), ahead=batch_size)
    for done, (example, p) in enumerate(answers(model, examples, batch_size), start=1):
        yield Judged(example, p)
        if done % batch_size == 0 or done == len(samples):
            progress(done)


def evaluate(
    model: RefSel,
    samples: Samples,
    degradation: DegradationSettings,
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Score RefSel on triplets of identities that it was not trained on.

    M is the reviewed mask with the severe rule applied, as in training and in the paper.
    """
    threshold = model.config.threshold
    counted: list[tuple[Example, Confusion]] = []
    histogram = np.zeros((2, BINS), np.int64)
    for judged in judge(
        model, samples, degradation, seed=seed, batch_size=batch_size, progress=progress
    ):
        pair, p = judged.example.pair, judged.probability
        counted.append((judged.example, Confusion.count(p > threshold, pair.mask, pair.region)))
        for consistent in (0, 1):
            inside = p[pair.region & (pair.mask == bool(consistent))]
            histogram[consistent] += np.histogram(inside, bins=BINS, range=(0, 1))[0]

    def row(name: str, chosen: Callable[[Example], bool]) -> Row:
        confusions = [confusion for example, confusion in counted if chosen(example)]
        return Row(name, summarise(confusions), summarise_all_ones(confusions))

    present = [name for name in Scenario if any(name in one.scenarios for one, _ in counted)]
    return Evaluation(
        scenarios=tuple(row(name, partial(_has_scenario, name)) for name in present),
        everything=row("all pairs", lambda _: True),
        severe=row("severe inputs", lambda one: one.severe),
        threshold=threshold,
        best_threshold=_best_threshold(histogram),
    )


def _has_scenario(scenario: Scenario, example: Example) -> bool:
    return scenario in example.scenarios


def _best_threshold(histogram: NDArray[np.int64]) -> float:
    """The most accurate threshold of those with about the best conflict IoU.

    Around its best that IoU is flat, and where exactly it is highest is chance.

    Args:
        histogram: counts of p, int64[2, BINS], by class (0 conflict).
    """
    dropped = np.cumsum(histogram, axis=1)[:, :-1]
    union = histogram[0].sum() + dropped[1]
    iou = dropped[0] / np.maximum(union, 1)
    if not iou.any():
        return 0.5
    right = dropped[0] - dropped[1]  # and all of class 1, whatever the threshold
    about_best = iou >= iou.max() - ABOUT
    return float(THRESHOLDS[int(np.where(about_best, right, -np.inf).argmax())])


def scenario_table(evaluation: Evaluation, title: str) -> Table:
    """The evaluation as a table that fits a terminal of 80 columns; all numbers in percent."""
    caption = (
        "acc: accuracy in the face region as in Table 3; ones: the all-ones mask; "
        "recall, prec, c-IoU: of the conflict; all in %"
    )
    table = Table(title=title, caption=caption, padding=(0, 0, 0, 1))
    for heading in (
        "scenario",
        "pairs",
        "acc",
        "ones",
        "IoU",
        "ones",
        "recall",
        "prec",
        "c-IoU",
    ):
        justify: Literal["left", "right"] = "left" if heading == "scenario" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for one in evaluation.scenarios:
        table.add_row(*cells(one))
    table.add_section()
    accuracy, iou, *conflict = (
        percent(evaluation.mean(score))
        for score in ("accuracy", "iou", "conflict_recall", "conflict_precision", "conflict_iou")
    )
    table.add_row("mean of scenarios", "", accuracy, "", iou, "", *conflict, style="bold")
    table.add_row(*cells(evaluation.everything))
    table.add_row(*cells(evaluation.severe))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """A row's name, pairs and scores beside the all-ones mask's, as `scenario_table` shows them."""
    scores = row.scores
    numbers = (
        scores.accuracy,
        row.all_ones.accuracy,
        scores.iou,
        row.all_ones.iou,
        scores.conflict_recall,
        scores.conflict_precision,
        scores.conflict_iou,
    )
    return (row.name.replace("_", " "), str(scores.pairs), *map(percent, numbers))


def percent(value: float) -> str:
    """A share as percent with one digit, or a dash where it is not defined."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"

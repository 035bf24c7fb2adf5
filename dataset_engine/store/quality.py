"""How well annotators answer: against gold answers, and against each other, by person and scenario."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from dataset_engine.store.comparing import confusion
from dataset_engine.store.queries import row_counts
from dataset_engine.store.tables import Comparison, Event, GoldAnswer, PairState
from dataset_engine.taxonomy import Conflict, Scenario, Status, scenarios
from models.metrics import Confusion, mean_of_defined

EVERY = "all"
"""Name of the row over all annotators, and of that over all scenarios."""


@dataclass(frozen=True)
class QualityRow:
    """Figures of one annotator in one scenario; None where a figure is not defined.

    Attributes:
        annotator: as events name the person, or `EVERY`.
        scenario: one of Table 3, or `EVERY`.
        answers: answers that were compared.
        agreed: of these, how many count as the same answer.
        verdicts: of these, where both or neither rejected the pair.
        iou: IoU of the consistent pixels, mean over pairs.
        conflict_iou: IoU of the conflict pixels, over all pixels of all pairs together.
        boundary_f: F1 of the masks' borders, mean over pairs.
        kappa: Cohen's kappa over all pixels of the face regions together.
    """

    annotator: str
    scenario: str
    answers: int
    agreed: int
    verdicts: int
    iou: float | None
    conflict_iou: float | None
    boundary_f: float | None
    kappa: float | None


@dataclass(frozen=True)
class QualityReport:
    """What `engine quality` shows.

    Attributes:
        gold: answers to gold tasks, by annotator and scenario; the rows over all come first.
        agreement: answers to pairs that two annotators were given; each counts for both of them.
        gold_answers: pairs whose right answer is known.
        adjudicate: pairs on which two annotators disagree, and nobody has decided yet.
        least_iou: IoU under which two masks are different answers.
        least_kappa: Cohen's kappa under which they are.
    """

    gold: list[QualityRow]
    agreement: list[QualityRow]
    gold_answers: int
    adjudicate: int
    least_iou: float
    least_kappa: float


@dataclass
class _Sums:
    answers: int = 0
    agreed: int = 0
    verdicts: int = 0
    pixels: Confusion = field(default_factory=Confusion)
    ious: list[float] = field(default_factory=list)
    boundary_fs: list[float] = field(default_factory=list)

    def add(self, one: Comparison, statuses: tuple[str | None, str | None]) -> None:
        self.answers += 1
        self.agreed += one.agrees
        self.verdicts += (statuses[0] == Status.REJECTED) == (statuses[1] == Status.REJECTED)
        counts = confusion(one)
        if counts is not None and one.boundary_f is not None:
            self.pixels += counts
            # two empty masks are one answer
            self.ious.append(1.0 if math.isnan(counts.iou) else counts.iou)
            self.boundary_fs.append(one.boundary_f)

    def row(self, annotator: str, scenario: str) -> QualityRow:
        return QualityRow(
            annotator,
            scenario,
            self.answers,
            self.agreed,
            self.verdicts,
            iou=_defined(mean_of_defined(self.ious)),
            conflict_iou=_defined(self.pixels.conflict_iou),
            boundary_f=_defined(mean_of_defined(self.boundary_fs)),
            kappa=_defined(self.pixels.kappa),
        )


def quality_report(session: Session, least_iou: float, least_kappa: float) -> QualityReport:
    """Sum all comparisons up, of which there are as many as pairs that several people answered."""
    first, second = aliased(Event), aliased(Event)
    query = (
        select(
            Comparison,
            first.actor,
            second.actor,
            first.status,
            second.status,
            first.conflicts,
            second.conflicts,
        )
        .join(first, first.id == Comparison.event_id)
        .join(second, second.id == Comparison.other_event_id)
        .order_by(Comparison.id)
    )
    sums: dict[bool, defaultdict[tuple[str, str], _Sums]] = {
        gold: defaultdict(_Sums) for gold in (True, False)
    }
    newest: dict[tuple[bool, int, frozenset[str]], Any] = {}
    for row in session.execute(query):
        # who changes an answer, or whose task was put back, has answered once all the same
        newest[row[0].gold, row[0].pair_id, frozenset(row[1:3])] = row
    for one, actor, other, status, other_status, conflicts, known in newest.values():
        groups = _scenarios(known if one.gold else conflicts | known)
        for who in (EVERY, actor) if one.gold else (EVERY, actor, other):
            for scenario in groups:
                sums[one.gold][who, scenario].add(one, (status, other_status))
    return QualityReport(
        gold=_rows(sums[True]),
        agreement=_rows(sums[False]),
        gold_answers=session.scalar(select(func.count()).select_from(GoldAnswer)) or 0,
        adjudicate=row_counts(session, PairState)[Status.ADJUDICATE],
        least_iou=least_iou,
        least_kappa=least_kappa,
    )


def _scenarios(conflicts: Iterable[Conflict]) -> tuple[str, ...]:
    return (EVERY, *scenarios(conflicts))


def _rows(sums: dict[tuple[str, str], _Sums]) -> list[QualityRow]:
    order = [EVERY, *Scenario]
    places = sorted(sums, key=lambda place: (place[0] != EVERY, place[0], order.index(place[1])))
    return [sums[place].row(*place) for place in places]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value

"""Gold answers and second opinions: who is right, who agrees, and what neither may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from annotator.intake import project_row
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.comparing import compare_all, compare_answers
from dataset_engine.store.gold import GoldError, drop_gold, gold_from_reviewer, set_gold
from dataset_engine.store.page_reviews import PageReview, record_page_review, take_back
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.quality import EVERY, QualityRow, quality_report
from dataset_engine.store.queries import reviewed_triplets, seeds_open
from dataset_engine.store.reviews import (
    Decision,
    EventKind,
    Source,
    rebuild,
    record,
    record_deletion,
)
from dataset_engine.store.tables import Comparison, GoldAnswer, Pair, PairState
from dataset_engine.taxonomy import Conflict, Status

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MOUTH, BEARD = frozenset({Conflict.MOUTH}), frozenset({Conflict.BEARD})


class Desk:
    """Annotators who answer pairs, minute after minute."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.project = project_row(store, "home", 1)
        self.minute = 0
        with store.reading() as session:
            self.region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
            self.keys = dict(session.execute(select(Pair.id, Pair.key)).all())

    def mask(self, rows: int) -> Any:
        """The region without some rows below its middle."""
        mask = self.region.copy()
        mask[300 : 300 + rows] = False
        return mask

    def answers(
        self,
        who: int,
        pair: int,
        rows: int | None,
        conflicts: frozenset[Conflict] = MOUTH,
        annotation: int | None = None,
    ) -> int:
        """Submit, with a rejection for None, and compare as the intake does."""
        self.minute += 1
        number = annotation or 100 * pair + who
        record(
            self.store,
            Decision(
                pair_id=pair,
                project_id=self.project,
                annotation=number,
                updated_at=NOON + timedelta(minutes=self.minute),
                kind=EventKind.SUBMITTED,
                source=Source.WEBHOOK,
                actor=f"label-studio:{who}",
                accepted=rows is not None,
                mask=None if rows is None else self.mask(rows),
                conflicts=conflicts,
            ),
        )
        compare_answers(self.store, pair)
        return number

    def clicks(self, pair: int, accepted: bool = True, mask: str | None = None) -> None:
        self.minute += 1
        record_page_review(
            self.store,
            PageReview(
                click=f"click-{self.minute:04d}",
                pair=self.keys[pair],
                accepted=accepted,
                mask_sha256=mask or self.state(pair).mask_sha256,
                actor="review:Anna",
                made_at=NOON + timedelta(minutes=self.minute),
                conflicts=MOUTH,
            ),
        )

    def state(self, pair: int) -> PairState:
        with self.store.reading() as session:
            return session.get_one(PairState, pair)

    def status(self, *pairs: int) -> Sequence[str]:
        return [self.state(pair).status for pair in pairs]

    def rows(self, gold: bool) -> dict[tuple[str, str], QualityRow]:
        with self.store.reading() as session:
            report = quality_report(session, self.store.least_iou, self.store.least_kappa)
        rows = report.gold if gold else report.agreement
        return {(row.annotator, row.scenario): row for row in rows}


@pytest.fixture
def desk(store: Store, fill: Callable[..., None]) -> Desk:
    """Six pairs with the whole region proposed."""
    fill()
    made = Desk(store)
    add_proposals(
        store, "unet-r1", 1, [NewProposal(pair, made.region, 0.5) for pair in sorted(made.keys)]
    )
    return made


def test_two_annotators_who_agree_leave_the_pair_reviewed(desk: Desk) -> None:
    desk.answers(1, 1, 40)
    assert desk.status(1) == [Status.ADJUSTED]
    desk.answers(2, 1, 42)
    assert desk.status(1) == [Status.ADJUSTED]
    row = desk.rows(gold=False)["label-studio:1", EVERY]
    assert (row.answers, row.agreed, row.verdicts) == (1, 1, 1)
    assert row.iou is not None
    assert row.iou > 0.98


def test_two_annotators_who_disagree_wait_for_a_third_person(desk: Desk, store: Store) -> None:
    desk.answers(1, 1, 10)
    desk.answers(2, 1, 120)
    assert desk.status(1) == [Status.ADJUDICATE]
    assert list(reviewed_triplets(store)) == []
    desk.clicks(1)
    assert desk.status(1) == [Status.ADJUSTED]
    assert [triplet.annotator for triplet in reviewed_triplets(store)] == ["review:Anna"]
    take_back(store, "click-undo", f"click-{desk.minute:04d}", "review:Anna")
    assert desk.status(1) == [Status.ADJUDICATE]
    assert rebuild(store, [1]) == 0


def test_a_rejection_beside_an_acceptance_is_a_disagreement(desk: Desk) -> None:
    desk.answers(1, 1, None)
    desk.answers(2, 1, 40)
    desk.answers(1, 2, None)
    desk.answers(2, 2, None)
    assert desk.status(1, 2) == [Status.ADJUDICATE, Status.REJECTED]
    row = desk.rows(gold=False)[EVERY, EVERY]
    assert (row.answers, row.agreed, row.verdicts, row.iou) == (2, 1, 1, None)


def test_an_annotator_who_comes_round_ends_the_disagreement(desk: Desk) -> None:
    desk.answers(1, 1, 10)
    second = desk.answers(2, 1, 120)
    desk.answers(2, 1, 11, annotation=second)
    assert desk.status(1) == [Status.ADJUSTED]


def test_a_third_annotator_and_a_deletion_end_a_disagreement(desk: Desk, store: Store) -> None:
    for pair in (1, 2):
        desk.answers(1, pair, 10)
        desk.answers(2, pair, 120)
    desk.answers(3, 1, 60)
    record_deletion(store, desk.project, 202, Source.SYNC, "label-studio")
    assert desk.status(1, 2) == [Status.ADJUSTED, Status.ADJUSTED]
    assert desk.state(2).mask_sha256 == store.put_mask(desk.mask(10))


def test_a_difference_of_few_pixels_is_none(desk: Desk) -> None:
    desk.answers(1, 1, 0)
    desk.answers(2, 1, 1)  # kappa is 0 here
    assert desk.status(1) == [Status.ADJUSTED]


def test_answers_to_gold_tasks_are_measured_and_change_nothing(desk: Desk, store: Store) -> None:
    desk.answers(9, 1, 40, MOUTH)
    desk.clicks(2)
    assert set_gold(store, [desk.keys[1], desk.keys[2]], "lead") == 2
    assert set_gold(store, [desk.keys[1]], "lead") == 0
    known = [desk.state(pair).mask_sha256 for pair in (1, 2)]
    for pair in (1, 2):
        desk.answers(1, pair, 41, BEARD)
        desk.answers(2, pair, 200, BEARD)
    assert desk.status(1, 2) == [Status.ADJUSTED, Status.ACCEPTED]
    assert [desk.state(pair).mask_sha256 for pair in (1, 2)] == known
    rows = desk.rows(gold=True)
    assert rows["label-studio:1", EVERY].answers == 2
    assert rows["label-studio:1", "mouth"].agreed == 1
    assert rows["label-studio:2", EVERY].agreed == 0
    assert ("label-studio:1", "beard") not in rows  # scenarios are those of the gold answer
    assert "label-studio:9" not in {who for who, _ in rows}
    assert desk.rows(gold=False) == {}
    assert rebuild(store, [1, 2]) == 0


def test_the_maker_of_a_gold_answer_may_change_it_but_the_gold_answer_stays(
    desk: Desk, store: Store
) -> None:
    made = desk.answers(9, 1, 40)
    set_gold(store, [desk.keys[1]], "lead")
    desk.answers(9, 1, 60, annotation=made)
    assert desk.state(1).mask_sha256 == store.put_mask(desk.mask(60))
    desk.answers(1, 1, 40)
    assert desk.rows(gold=True)["label-studio:1", EVERY].iou == 1.0


def test_who_answers_a_gold_task_twice_changes_nothing_either(desk: Desk, store: Store) -> None:
    desk.clicks(1)
    set_gold(store, [desk.keys[1]], "lead")
    known = desk.state(1).mask_sha256
    desk.answers(1, 1, 200, annotation=501)
    desk.answers(1, 1, 40, annotation=502)  # a second annotation beside the first
    assert (desk.state(1).status, desk.state(1).mask_sha256) == (Status.ACCEPTED, known)


def test_a_gold_answer_that_its_maker_takes_back_keeps_nobodys_answer_from_counting(
    desk: Desk, store: Store
) -> None:
    desk.clicks(1)
    set_gold(store, [desk.keys[1]], "lead")
    desk.answers(1, 1, 40)
    assert desk.status(1) == [Status.ACCEPTED]
    take_back(store, "click-undo", "click-0001", "review:Anna")
    assert desk.status(1) == [Status.ADJUSTED]
    assert desk.state(1).mask_sha256 == store.put_mask(desk.mask(40))
    desk.clicks(1)
    desk.answers(2, 1, 90)
    assert desk.state(1).mask_sha256 == store.put_mask(desk.mask(40))
    assert rebuild(store, [1]) == 0


def test_an_answer_that_is_changed_counts_once_in_the_table(desk: Desk, store: Store) -> None:
    desk.answers(1, 1, 10)
    second = desk.answers(2, 1, 120)
    desk.answers(2, 1, 11, annotation=second)
    desk.clicks(2)
    set_gold(store, [desk.keys[2]], "lead")
    first = desk.answers(1, 2, 200)
    desk.answers(1, 2, 0, annotation=first)
    for gold in (False, True):
        row = desk.rows(gold)["label-studio:1", EVERY]
        assert (row.answers, row.agreed) == (1, 1)


def test_two_answers_to_dropped_gold_are_second_opinions(desk: Desk, store: Store) -> None:
    desk.clicks(1)
    set_gold(store, [desk.keys[1]], "lead")
    desk.answers(1, 1, 10)
    desk.answers(2, 1, 120)
    drop_gold(store, [desk.keys[1]])
    assert desk.status(1) == [Status.ADJUDICATE]


def test_gold_that_is_dropped_is_an_ordinary_pair_again(desk: Desk, store: Store) -> None:
    desk.clicks(1)
    set_gold(store, [desk.keys[1]], "lead")
    desk.answers(1, 1, 40)
    assert desk.status(1) == [Status.ACCEPTED]
    assert drop_gold(store, [desk.keys[1]]) == 1
    assert desk.status(1) == [Status.ADJUSTED]
    assert desk.rows(gold=True) == {}


def test_gold_is_taken_from_a_reviewer_by_name_and_only_from_decided_pairs(
    desk: Desk, store: Store
) -> None:
    for pair in (1, 2, 3):
        desk.clicks(pair, accepted=pair != 2)
    with pytest.raises(GoldError, match="proposed: accept or adjust"):
        set_gold(store, [desk.keys[1], desk.keys[4]], "lead")
    with pytest.raises(GoldError, match="no pair nonsense"):
        set_gold(store, ["nonsense"], "lead")
    with pytest.raises(GoldError, match="'Bo'"):
        gold_from_reviewer(store, "Bo", 5, "lead")
    assert gold_from_reviewer(store, "Anna", 1, "lead") == 1
    assert gold_from_reviewer(store, "review:Anna", 9, "lead") == 1
    with store.reading() as session:
        assert sorted(session.scalars(select(GoldAnswer.pair_id))) == [1, 3]


def test_comparisons_that_a_crash_lost_are_made_up_for_once(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.clicks(1)
    set_gold(store, [desk.keys[1]], "lead")
    monkeypatch.setattr(f"{__name__}.compare_answers", lambda *_: 0)
    desk.answers(1, 1, 200)
    assert compare_all(store) == 1
    assert compare_all(store) == 0


def test_other_thresholds_judge_what_was_compared_before(
    desk: Desk, store: Store, settings: Settings
) -> None:
    desk.answers(1, 1, 40)
    desk.answers(2, 1, 60)
    assert desk.status(1) == [Status.ADJUSTED]
    with Store(settings.model_copy(update={"agreement_iou": 0.99})) as strict:
        compare_all(strict)
        assert desk.status(1) == [Status.ADJUDICATE]
    compare_all(store)
    assert desk.status(1) == [Status.ADJUSTED]


def test_figures_are_those_of_the_masks(desk: Desk, store: Store) -> None:
    desk.answers(9, 1, 100)
    set_gold(store, [desk.keys[1]], "lead")
    desk.answers(1, 1, 120)
    row = desk.rows(gold=True)["label-studio:1", EVERY]
    first, second = desk.mask(120)[desk.region], desk.mask(100)[desk.region]
    right = float((first == second).mean())
    chance = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean())
    assert row.iou == pytest.approx((first & second).sum() / (first | second).sum())
    assert row.conflict_iou == pytest.approx((~first & ~second).sum() / (~first | ~second).sum())
    assert row.kappa == pytest.approx((right - chance) / (1 - chance))
    assert row.boundary_f is not None
    assert 0 < row.boundary_f < 1


def test_seeds_that_wait_for_a_third_person_are_still_open(desk: Desk, store: Store) -> None:
    with store.writing() as session:
        session.get_one(Pair, 1).seed_rank = 0
    desk.answers(1, 1, 10)
    desk.answers(2, 1, 120)
    with store.reading() as session:
        assert seeds_open(session) == 1
        assert not session.scalars(select(Comparison.agrees)).one()


def test_a_store_without_answers_has_an_empty_table(store: Store) -> None:
    assert compare_all(store) == 0
    with store.reading() as session:
        report = quality_report(session, 0.9, 0.6)
    assert (report.gold, report.agreement, report.gold_answers, report.adjudicate) == ([], [], 0, 0)
    assert np.isfinite(report.least_iou)

"""What is asked for all day is read off an index, and comes out as if everything had been looked at."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, event, func, literal, select, text, update

from dataset_engine.store import Store
from dataset_engine.store.pairs import choose_seeds
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import (
    REVIEWED,
    UNDECIDED,
    count_undecided,
    latest_decision_id,
    reviewed_triplets,
    row_counts,
    status_report,
    undecided,
)
from dataset_engine.store.review_queries import (
    Filters,
    answers_that_differ,
    count_review,
    review_page,
)
from dataset_engine.store.reviews import rebuild
from dataset_engine.store.tables import (
    REVIEWED_ROWS,
    UNDECIDED_ROWS,
    Comparison,
    Event,
    Identity,
    Image,
    Pair,
    PairState,
    Proposal,
    RowCount,
)
from dataset_engine.taxonomy import Status

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "growth.py"
LARGE = ("pairs", "pair_states", "proposals", "events", "images")
Statements = list[tuple[str, Any]]


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    """The benchmark, which can fill a store."""
    spec = importlib.util.spec_from_file_location("growth", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def asked(store: Store) -> Iterator[Statements]:
    """The SELECTs that the store sends, with their parameters."""
    statements: Statements = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(store.engine, "before_cursor_execute", note)


def complaints(store: Store, statement: str, parameters: Any) -> list[str]:
    """The steps of a statement's plan that read a large table whole, or sort more than a few rows."""
    sqlite = store.engine.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN (FORMAT JSON) "
    with store.engine.connect() as connection:
        if (
            not sqlite
        ):  # as on a disk without heads: 20,000 rows are soon read whole from the other kind
            connection.exec_driver_sql("SET random_page_cost = 1.1")
        rows = connection.exec_driver_sql(explain + statement, parameters).all()
    if sqlite:
        steps = [str(row[-1]) for row in rows]
        return [step for step in steps if re.match(r"SCAN |USE TEMP B-TREE", step)]
    found = []
    waiting = [rows[0][0][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        whole = node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE
        if whole or ("Sort" in node["Node Type"] and node["Plan Rows"] > 500):
            found.append(json.dumps({k: v for k, v in node.items() if k != "Plans"}))
    return found


def test_batches_are_read_off_an_index(
    store: Store, growth: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a batch of 500 is a tenth of this store's pictures, which PostgreSQL reads whole with reason
    monkeypatch.setattr("dataset_engine.store.queries.BATCH", 50)
    growth.fill(store, 20_000)

    def seeds() -> None:
        with store.reading() as session:
            choose_seeds(session, growth.SEEDS + 20)

    def decision() -> None:
        with store.reading() as session:
            assert latest_decision_id(session) > 0

    def batch(without: str | None) -> Callable[[], object]:
        return lambda: list(itertools.islice(undecided(store, without), 120))

    operations: dict[str, Callable[[], object]] = {
        "next batches": batch(None),
        "next batches without a proposal of the round": batch("unet-r2"),
        "next batches of a new round": batch("unet-r3"),
        "newest decision": decision,
        "seeds": seeds,
    }
    for name, run in operations.items():
        with asked(store) as statements:
            run()
        assert statements, name
        for statement, parameters in statements:
            found = complaints(store, statement, parameters)
            assert not found, f"{name}: {statement[:300]} {found}"
    with asked(store) as statements:
        assert len(list(itertools.islice(reviewed_triplets(store), 120))) == 120
    if store.engine.dialect.name == "sqlite":
        # the index of reviewed pairs is read whole and in order, since all of them are asked for;
        # PostgreSQL is free to sort them
        plan = complaints(store, *statements[0])
        assert plan == ["SCAN pair_states USING INDEX ix_pair_states_reviewed"]


def test_pairs_to_adjudicate_are_found_by_their_comparisons(
    store: Store, growth: ModuleType
) -> None:
    growth.fill(store, 20_000)
    with store.writing() as session:
        # two events of one pair are enough for a comparison here
        both = select(Event.pair_id, func.min(Event.id), func.max(Event.id))
        some = session.execute(
            both.group_by(Event.pair_id).having(func.count() == 2).limit(40)
        ).all()
        for number, (pair_id, first, second) in enumerate(some):
            session.add(
                Comparison(
                    pair_id=pair_id,
                    event_id=second,
                    other_event_id=first,
                    gold=False,
                    agrees=number % 4 > 0,
                )
            )
            if number % 4 == 0:
                session.get_one(PairState, pair_id).status = Status.ADJUDICATE
    if store.engine.dialect.name != "sqlite":  # as PostgreSQL does by itself after a while
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE comparisons")
    filters = Filters(statuses=(Status.ADJUDICATE,))
    with asked(store) as statements, store.reading() as session:
        page = review_page(session, filters)
        assert len(answers_that_differ(session, [card.key for card in page])) == 10
        assert count_review(session, filters) == 10
    assert len(page) == 10
    for statement, parameters in statements:
        found = complaints(store, statement, parameters)
        # the few that are found are sorted, and the comparisons are few
        small = ("USE TEMP B-TREE", "SCAN comparisons")
        assert not [step for step in found if not step.startswith(small)], statement


def test_a_plan_that_reads_everything_is_noticed(store: Store, growth: ModuleType) -> None:
    growth.fill(store, 1_000)
    for statement in (
        "SELECT count(*) FROM pairs WHERE created_at IS NULL",
        "SELECT id FROM images ORDER BY sharpness",
    ):
        assert complaints(store, statement, ())


def test_partial_indexes_name_the_statuses_that_the_words_mean() -> None:
    def named(condition: str) -> set[str]:
        return set(re.findall(r"'(\w+)'", condition))

    assert named(UNDECIDED_ROWS) == set(UNDECIDED)
    assert named(REVIEWED_ROWS) == set(REVIEWED)


def test_a_filled_store_holds_what_its_own_rules_derive(store: Store, growth: ModuleType) -> None:
    growth.fill(store, 1_000)
    assert rebuild(store, range(1, 1001, 7)) == 0
    with store.reading() as session:
        report = status_report(session)
    assert report.pairs["proposed"] == 750
    assert report.pairs["unlabelled"] == 150
    assert sum(report.pairs.values()) == 1000
    assert report.events == 110
    assert (report.unusable, report.seeds) == (0, 200)


def test_batches_agree_with_looking_at_everything(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_engine.store.queries.BATCH", 7)
    fill(identities=4, images=4)
    mask = np.zeros((512, 512), bool)
    with store.reading() as session:
        ids = session.scalars(select(Pair.id).order_by(Pair.id)).all()
    random = np.random.default_rng(0)
    for version, number in (("unet-r1", 1), ("unet-r2", 2), ("face-region", 0)):
        chosen = sorted(random.choice(ids, 25, replace=False).tolist())
        add_proposals(store, version, number, [NewProposal(n, mask, 0.5) for n in chosen])
    with store.writing() as session:
        for pair_id in random.choice(ids, 9, replace=False).tolist():
            state = session.get_one(PairState, pair_id)
            state.status = Status(random.choice(["accepted", "adjusted", "rejected"]))
    with store.reading() as session:
        rows = session.execute(
            select(Pair.id, PairState.status).join(PairState).order_by(Pair.position, Pair.id)
        ).all()
        proposed = set(session.execute(select(Proposal.pair_id, Proposal.model_version)).all())
    for without in (None, "unet-r1", "unet-r2", "face-region", "unet-r9"):
        expected = [
            pair_id
            for pair_id, status in rows
            if status in UNDECIDED and (pair_id, without) not in proposed
        ]
        assert [pair.id for pair in undecided(store, without)] == expected
        if without is not None:
            with store.reading() as session:
                assert count_undecided(session, without) == len(expected)


def test_pairs_proposed_for_meanwhile_do_not_upset_the_order(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_engine.store.queries.BATCH", 5)
    fill(identities=4, images=4)
    mask = np.zeros((512, 512), bool)
    seen = []
    for pair in undecided(store, without_model="unet-r1"):
        seen.append(pair.id)
        add_proposals(store, "unet-r1", 1, [NewProposal(pair.id, mask, 0.5)])
    with store.reading() as session:
        assert seen == session.scalars(select(Pair.id).order_by(Pair.position)).all()
        assert count_undecided(session, "unet-r1") == 0
    assert list(undecided(store, without_model="unet-r1")) == []
    assert [pair.id for pair in undecided(store)] == seen


def test_reviewed_triplets_are_complete_and_say_who_made_them(
    store: Store, growth: ModuleType
) -> None:
    growth.fill(store, 1_000)
    triplets = list(reviewed_triplets(store))
    with store.reading() as session:
        keys = session.scalars(
            select(Pair.key).join(PairState).where(PairState.status.in_(REVIEWED))
        ).all()
        actors = dict(
            session.execute(
                select(Pair.key, Event.actor)
                .join(PairState, PairState.pair_id == Pair.id)
                .join(Event, Event.id == PairState.event_id)
            ).all()
        )
    assert sorted(triplet.key for triplet in triplets) == sorted(keys)
    assert all(triplet.annotator == actors[triplet.key] for triplet in triplets)
    assert {triplet.round for triplet in triplets} == {1}


def test_a_store_without_states_gives_nothing(store: Store) -> None:
    assert list(undecided(store)) == []
    assert list(reviewed_triplets(store)) == []
    with store.reading() as session:
        assert count_undecided(session, "unet-r1") == 0
        assert session.scalar(text("SELECT count(*) FROM pair_states")) == 0


def counted(store: Store) -> dict[str, dict[str, int]]:
    """Every count that is kept, by table and label."""
    tables = (Identity, Image, PairState, Proposal, Event)
    with store.reading() as session:
        return {table.__tablename__: dict(row_counts(session, table)) for table in tables}


def looked_at(store: Store) -> dict[str, dict[str, int]]:
    """The same counts, by looking at the rows."""
    labels = {
        Identity: Identity.split,
        Image: literal(""),
        PairState: PairState.status,
        Proposal: Proposal.model_version,
        Event: Event.kind,
    }
    with store.reading() as session:
        return {
            table.__tablename__: dict(
                Counter(session.scalars(select(label).select_from(table))).items()
            )
            for table, label in labels.items()
        }


def test_status_and_counts_look_at_no_large_table(store: Store, growth: ModuleType) -> None:
    growth.fill(store, 2_000)
    with asked(store) as statements, store.reading() as session:
        assert status_report(session).pairs["proposed"] == 1500
        assert count_undecided(session, "unet-r2") == 1200
        assert count_undecided(session, "unet-r9") == 1800
    large = "|".join(LARGE)
    for statement, _ in statements:
        if "seed_rank" not in statement:  # the seeds are few, and have an index
            assert not re.search(rf"(FROM|JOIN) ({large})\b", statement), statement


def test_counts_follow_whatever_is_done_to_the_rows(store: Store, growth: ModuleType) -> None:
    growth.fill(store, 1_000)
    assert counted(store) == looked_at(store)
    mask = np.zeros((512, 512), bool)
    add_proposals(store, "unet-r3", 3, [NewProposal(n, mask, 0.5) for n in range(80, 120)])
    with store.writing() as session:
        session.execute(update(PairState).where(PairState.pair_id < 50).values(status="rejected"))
        session.execute(delete(PairState).where(PairState.pair_id.between(200, 260)))
        session.execute(update(Proposal).where(Proposal.id < 9).values(model_version="other"))
    assert counted(store) == looked_at(store)
    with store.writing() as session:
        session.execute(update(PairState).values(status="unlabelled"))
        session.rollback()
    assert counted(store) == looked_at(store)


def test_many_small_changes_leave_few_counts_behind(store: Store, growth: ModuleType) -> None:
    growth.fill(store, 1_000)
    for turn in range(3):
        with store.writing() as session:
            for pair_id in range(1, 400):
                session.execute(
                    update(PairState)
                    .where(PairState.pair_id == pair_id)
                    .values(status=("rejected", "accepted")[turn % 2])
                )
    assert counted(store) == looked_at(store)
    with store.reading() as session:
        assert (session.scalar(select(func.count(RowCount.id))) or 0) < 1200


def test_a_model_that_is_not_the_newest_is_counted_by_its_proposals(
    store: Store, growth: ModuleType
) -> None:
    growth.fill(store, 1_000)
    with store.reading() as session:
        # 85 of 100 pairs have the first round's proposal, 10 of these are decided
        assert count_undecided(session, "unet-r1") == 150
        assert len(list(undecided(store, "unet-r1"))) == 150

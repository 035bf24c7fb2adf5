"""The service under load and under the axe: what it acknowledged is there once, and nothing else is."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.taxonomy import Conflict

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module("load")


@pytest.fixture
def home(load: Any, settings: Settings) -> Path:
    with Store(settings) as store:
        load.fill_with_pictures(store, 200)
    return settings.home


@pytest.mark.slow
@pytest.mark.timeout(1200)  # six starts of the service, on a machine that may be busy
def test_kills_lose_nothing_that_was_acknowledged_and_double_nothing(load: Any, home: Path) -> None:
    outcome = load.run(home, seconds=1, annotators=8, think=0.05, kills=5)
    assert outcome.kills == 5
    assert outcome.stored > 30
    assert not outcome.missing
    assert not outcome.surplus
    assert not outcome.errors


@pytest.mark.slow
def test_the_comparison_sees_what_is_lost_and_what_is_there_twice(load: Any, home: Path) -> None:
    outcome = load.run(home, seconds=3, annotators=4, think=0.05, kills=0)
    assert not [*outcome.missing, *outcome.surplus, *outcome.errors]
    notes = next(one for one in outcome.notes if one.submitted)
    forged = load.Sent(999_999, 1, notes.submitted[0].updated_at, 5, True, Conflict.MOUTH)
    unknown = notes.submitted.pop()
    notes.submitted.append(forged)
    with Store(Settings(home=home)) as store:
        again = load.Outcome(outcome.notes)
        load.compare(store, again, first_event(load, store))
    assert "annotation 999999" in again.missing
    assert f"annotation {unknown.annotation}" in again.surplus


def first_event(load: Any, store: Store) -> int:
    """The newest event that was there before anybody worked."""
    with store.reading() as session:
        row = session.query(load.StoredEvent).filter(load.StoredEvent.source == "webhook")
        return int(row.order_by(load.StoredEvent.id).first().id) - 1

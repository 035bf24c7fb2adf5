"""`engine migrate` waits for a database that starts, and names one that does not come."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from dataset_engine.cli import app
from dataset_engine.store import migrating

URL = "postgresql+psycopg://refstar:hush@db/refstar?password=hush"


def starting(failures: int) -> Callable[[str], None]:
    """A database that answers after so many tries."""
    left = [failures]

    def upgrade(_: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("refused"))

    return upgrade


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "PAUSE_S", 0.0)


def test_a_database_that_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "upgrade", starting(3))
    told: list[str] = []
    migrating.migrate(URL, 60.0, told.append)
    assert len(told) == 3
    assert all("refstar:***@db/refstar" in line and "hush" not in line for line in told)


def test_a_database_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "upgrade", starting(1))
    with pytest.raises(OperationalError):
        migrating.migrate(URL)


def test_the_command_brings_a_new_home_to_the_schema_and_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        answer = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "migrate"])
        assert answer.exit_code == 0
        assert "has this engine's schema" in answer.output
    assert (tmp_path / "home" / "refstar.sqlite").is_file()

"""The schema's history leads to the models that the code has, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.database import downgrade, open_engine, upgrade
from dataset_engine.store.tables import Base


def test_migrated_schema_equals_the_models(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    upgrade(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_schema_goes_up_from_empty_and_down_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    upgrade(url)
    downgrade(url, "base")
    engine = open_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    upgrade(url)
    assert "events" in inspect(engine).get_table_names()
    engine.dispose()


def test_sqlite_is_opened_with_wal_foreign_keys_and_patience(store: Store) -> None:
    with store.engine.connect() as connection:
        pragma = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    assert pragma == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000}


def test_opening_a_store_again_keeps_what_is_in_it(settings: Settings) -> None:
    with Store(settings) as store, store.writing() as session:
        session.execute(
            text(
                "INSERT INTO set_aside (path, reason, detail, at)"
                " VALUES ('a', 'b', 'c', '2026-01-01 00:00:00')"
            )
        )
    with Store(settings) as store, store.reading() as session:
        assert session.execute(text("SELECT path FROM set_aside")).scalars().all() == ["a"]


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'x'", "DELETE FROM events"])
def test_the_database_itself_refuses_to_change_events(
    store: Store, fill: object, statement: str
) -> None:
    fill()  # type: ignore[operator]
    with store.writing() as session:
        session.execute(
            text(
                "INSERT INTO events (key, pair_id, kind, source, actor, at, annotation_updated_at,"
                " conflicts, detail) VALUES ('k', 1, 'skipped', 'sync', 'a',"
                " '2026-01-01 00:00:00', '2026-01-01 00:00:00', '', '')"
            )
        )
    with pytest.raises(DBAPIError, match="append-only"), store.writing() as session:
        session.execute(text(statement))

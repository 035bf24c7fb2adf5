"""The schema's history leads to the models that the code has, and back."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.database import alembic_config, downgrade, open_engine, upgrade
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


def test_opening_a_store_does_not_wait_for_a_writer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_engine.store.database.BUSY_TIMEOUT_MS", 50)
    with Store(settings) as store, store.writing() as session:
        session.execute(text("SELECT 1"))
        with Store(settings) as other, other.reading() as reading:
            assert reading.execute(text("SELECT count(*) FROM pairs")).scalar() == 0


def test_a_database_of_a_newer_engine_is_refused(settings: Settings) -> None:
    with Store(settings) as store, store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(RuntimeError, match="newer engine"):
        Store(settings)


def test_a_home_may_have_any_name(tmp_path: Path) -> None:
    home = tmp_path / "a b?c#d%20e%%f+[x]@;&=:é"
    with Store(Settings(home=home)):
        pass
    assert (home / "refstar.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_migrations_may_lie_under_a_percent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations.__file__", str(tmp_path / "100%20" / "__init__.py"))
    option = alembic_config("sqlite://").get_main_option("script_location")
    assert option == str(tmp_path / "100%20")


def test_a_new_home_is_its_owners_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    old.chmod(0o755)
    for home in (tmp_path / "new", old):
        Store(Settings(home=home)).close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(old.stat().st_mode) == 0o755


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

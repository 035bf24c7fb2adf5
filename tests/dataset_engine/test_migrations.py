"""The schema's history leads to the models that the code has, and back, with all rows."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.database import alembic_config, downgrade, open_engine, upgrade
from dataset_engine.store.tables import Base

HASHES = {letter: letter * 64 for letter in "abcdef"}
MOMENT = "2026-01-01 12:00:00.000001"
FIRST_ROWS: dict[str, list[dict[str, Any]]] = {
    "annotation_projects": [
        {"id": 1, "server": "home", "project": 3, "made_at": MOMENT, "created_at": MOMENT}
    ],
    "identities": [
        {"id": 1, "name": "0001", "split": "train", "source": "s", "licence": "l"}
        | {"created_at": MOMENT}
    ],
    "images": [
        {"id": number, "identity_id": 1, "name": f"{number}.png", "source_sha256": HASHES["a"]}
        | {"sha256": HASHES[letter], "region_sha256": HASHES["f"], "phash": "0" * 16}
        | {"sharpness": 1.5, "five_points": "[[1.0, 2.0]]", "created_at": MOMENT}
        for number, letter in enumerate("bcd", start=1)
    ],
    "pairs": [
        {"id": number, "key": f"key-{number}", "identity_id": 1, "gt_id": gt, "ref_id": ref}
        | {"position": number + 0.25, "seed_rank": 0 if number == 2 else None}
        | {"created_at": MOMENT}
        for number, (gt, ref) in enumerate([(1, 2), (2, 1), (1, 3), (3, 1)], start=1)
    ],
    "annotation_tasks": [
        {"id": 1, "project_id": 1, "task": 17, "pair_id": 1, "predicted_version": "unet-r2"}
        | {"created_at": MOMENT}
    ],
    "events": [
        {"id": number, "key": f"1:9:{number}:submit", "pair_id": pair, "kind": kind}
        | {"source": "sync", "actor": "label-studio:1", "at": MOMENT, "project_id": 1}
        | {"annotation": 9, "annotation_updated_at": MOMENT, "status": status}
        | {"mask_before": HASHES["e"], "mask_after": HASHES["f"] if status else None}
        | {"conflicts": "beard,mouth", "model_version": "unet-r1", "lead_time": 2.5, "detail": ""}
        for number, (pair, kind, status) in enumerate(
            [(2, "submitted", "adjusted"), (1, "skipped", None), (1, "unusable", None)], start=1
        )
    ],
    "proposals": [
        {"id": number, "pair_id": pair, "model_version": f"unet-r{version}", "round": version}
        | {"mask_sha256": HASHES["e"], "score": 0.5, "created_at": MOMENT}
        for number, (pair, version) in enumerate([(1, 1), (2, 1), (1, 2)], start=1)
    ],
    "pair_states": [
        {"pair_id": 1, "status": "proposed", "mask_sha256": HASHES["e"], "conflicts": ""}
        | {"event_id": None, "proposal_id": 3},
        {"pair_id": 2, "status": "adjusted", "mask_sha256": HASHES["f"]}
        | {"conflicts": "beard,mouth", "event_id": 1, "proposal_id": 2},
        {"pair_id": 3, "status": "unlabelled", "mask_sha256": None, "conflicts": ""}
        | {"event_id": None, "proposal_id": None},
        {"pair_id": 4, "status": "unlabelled", "mask_sha256": None, "conflicts": ""}
        | {"event_id": None, "proposal_id": None},
    ],
    "rounds": [
        {"number": 1, "model_version": "unet-r1", "last_event_id": 0, "stage": "done"}
        | {"metrics": '{"iou": 0.5}', "created_at": MOMENT}
    ],
    "set_aside": [{"id": 1, "path": "a.jpg", "reason": "blur", "detail": "d", "at": MOMENT}],
}
"""A store of the first schema, with rows in every table."""

UPGRADE = """
import sys, time
from sqlalchemy import event
from sqlalchemy.engine import Engine
from dataset_engine.store.database import upgrade

@event.listens_for(Engine, "after_cursor_execute")
def stop(connection, cursor, statement, *rest):
    if "alembic_version" in statement and sys.argv[2] in str(rest[0]) + statement:
        print("ready", flush=True)
        time.sleep(600)

upgrade(sys.argv[1])
"""


@pytest.fixture
def first_schema(empty_url: str) -> str:
    """The URL of a database that the first release has filled."""
    upgrade(empty_url, "0001")
    engine = open_engine(empty_url)
    with engine.execution_options(refstar_write=True).begin() as connection:
        for table, rows in FIRST_ROWS.items():
            names = list(rows[0])
            marks = ", ".join(f":{name}" for name in names)
            connection.execute(
                text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"),  # noqa: S608
                rows,
            )
    engine.dispose()
    return empty_url


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """What the columns of the first schema hold, in every table."""
    found = {}
    with engine.connect() as connection:
        for table, first in FIRST_ROWS.items():
            names = ", ".join(first[0])
            query = f"SELECT {names} FROM {table} ORDER BY 1"  # noqa: S608
            found[table] = [tuple(row) for row in connection.execute(text(query))]
    return found


def differences(engine: Engine) -> list[Any]:
    """What Alembic would have to change for the schema to be that of the models."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def test_migrated_schema_equals_the_models(empty_url: str) -> None:
    upgrade(empty_url)
    engine = open_engine(empty_url)
    assert differences(engine) == []
    engine.dispose()


def test_schema_goes_up_from_empty_and_down_again(empty_url: str) -> None:
    upgrade(empty_url)
    downgrade(empty_url, "base")
    engine = open_engine(empty_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    upgrade(empty_url)
    assert "events" in inspect(engine).get_table_names()
    engine.dispose()


def test_a_filled_store_of_the_first_release_loses_nothing(first_schema: str) -> None:
    engine = open_engine(first_schema)
    before = rows(engine)
    assert {table: len(kept) for table, kept in before.items()} == {
        table: len(given) for table, given in FIRST_ROWS.items()
    }
    upgrade(first_schema)
    assert rows(engine) == before
    assert differences(engine) == []
    with engine.connect() as connection:
        derived = connection.execute(
            text("SELECT position, proposed_version FROM pair_states ORDER BY pair_id")
        ).all()
    assert [tuple(row) for row in derived] == [
        (1.25, "unet-r2"),
        (2.25, "unet-r1"),
        (3.25, ""),
        (4.25, ""),
    ]
    for statement in ("UPDATE events SET actor = 'x'", "DELETE FROM events"):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text(statement))
    with pytest.raises(DBAPIError), engine.begin() as connection:
        connection.execute(text("UPDATE pair_states SET position = NULL"))
    downgrade(first_schema, "0001")
    assert rows(engine) == before
    engine.dispose()


def test_a_filled_store_of_the_first_release_goes_on_working(
    first_schema: str, tmp_path: Path
) -> None:
    from dataset_engine.store.queries import status_report, undecided
    from dataset_engine.store.reviews import rebuild

    with Store(Settings(home=tmp_path / "home", database_url=first_schema)) as store:
        assert [pair.id for pair in undecided(store)] == [1, 3, 4]
        assert [pair.id for pair in undecided(store, without_model="unet-r2")] == [3, 4]
        assert rebuild(store, range(1, 5)) == 0
        with store.reading() as session:
            report = status_report(session)
        assert (report.events, report.unusable, report.seeds_annotated) == (3, 1, 1)


@pytest.mark.parametrize("after", ["0002", "0003"])
def test_a_killed_upgrade_changes_nothing_and_runs_again(first_schema: str, after: str) -> None:
    engine = open_engine(first_schema)
    before, tables = rows(engine), inspect(engine).get_table_names()
    process = subprocess.Popen(
        [sys.executable, "-c", UPGRADE, first_schema, after], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert inspect(engine).get_table_names() == tables
    with engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM alembic_version")).scalar() == "0001"
    upgrade(first_schema)
    assert rows(engine) == before
    assert differences(engine) == []
    engine.dispose()


def test_two_upgrades_at_once_are_one(first_schema: str) -> None:
    program = "import sys; from dataset_engine.store.database import upgrade; upgrade(sys.argv[1])"
    command = [sys.executable, "-c", program, first_schema]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    engine = open_engine(first_schema)
    assert differences(engine) == []
    engine.dispose()


def test_sqlite_is_opened_with_wal_foreign_keys_and_patience(tmp_path: Path) -> None:
    with Store(Settings(home=tmp_path)) as store, store.engine.connect() as connection:
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

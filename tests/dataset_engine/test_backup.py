"""A backup holds everything that people made, and gives it back."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from dataset_engine.backup import BackupError, back_up, restore_backup, verify_backup
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.copying import CopyError, digests, move_store
from dataset_engine.store.named_files import IMAGE_COLUMNS, MASK_COLUMNS
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import HASH, AnnotationProject, Base, Event, Image, Pair
from dataset_engine.taxonomy import Conflict

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def filled(store: Store, fill: Callable[..., None]) -> Store:
    fill(identities=2, images=2)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=1, made_at=START))
    for number in range(3):
        review(store, number)
    model = store.home / "models" / "unet-r1" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model.parent / "training.pt").write_bytes(b"a state that nobody needs")
    (store.home / "secrets.json").write_text("{}")
    return store


def review(store: Store, number: int) -> None:
    with store.reading() as session:
        pairs = session.scalars(select(Pair.id).order_by(Pair.id)).all()
    mask = np.zeros((512, 512), bool)
    mask[100 + number : 300, 150:350] = True
    decision = Decision(
        pair_id=pairs[number % len(pairs)],
        project_id=1,
        annotation=number,
        updated_at=START + timedelta(minutes=number),
        kind=EventKind.SUBMITTED,
        source=Source.WEBHOOK,
        actor="béa",
        accepted=True,
        mask=mask,
        conflicts=frozenset({Conflict.MOUTH}),
        lead_time=12.5,
    )
    assert record(store, decision).new


def state(store: Store):
    with store.engine.connect() as connection:
        return digests(connection)


def members(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_home_made_of_a_backup_is_the_one_that_was_backed_up(filled: Store, tmp_path: Path):
    before = state(filled)
    report = back_up(filled, tmp_path / "backup.tar")
    assert report.missing == []
    assert (report.images, report.models) == (4, 1)
    assert not [name for name in members(report.path) if "secret" in name or "training" in name]
    settings = Settings(home=tmp_path / "again")
    restored = restore_backup(report.path, settings)
    assert (restored.rows, restored.images, restored.masks) == (
        report.rows,
        report.images,
        report.masks,
    )
    with Store(settings) as again:
        assert state(again) == before
        with again.reading() as session:
            event = session.scalars(select(Event).order_by(Event.id)).first()
            image = session.scalars(select(Image)).first()
        assert event is not None
        assert image is not None
        assert (event.actor, event.lead_time) == ("béa", 12.5)
        assert again.mask(str(event.mask_after)).sum() == 200 * 200
        assert again.images.read(image.sha256) == filled.images.read(image.sha256)
        assert (again.home / "models/unet-r1/model/model.safetensors").read_bytes() == b"weights"


def test_a_backup_made_while_people_work_is_of_one_moment(filled: Store, tmp_path: Path):
    stop = threading.Event()
    done = [3]

    def work() -> None:
        while not stop.is_set():
            review(filled, done[0])
            done[0] += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(3):
            report = back_up(filled, tmp_path / f"backup-{number}.tar")
            assert report.missing == []
    finally:
        stop.set()
        worker.join()
    restore_backup(report.path, settings := Settings(home=tmp_path / "again"))
    with Store(settings) as again, again.reading() as session:
        events = session.scalars(select(Event).order_by(Event.id)).all()
        assert 3 <= len(events) <= done[0]
        assert [event.annotation for event in events] == list(range(len(events)))
        for event in events:
            assert again.mask(str(event.mask_after)).any()


def test_a_lost_file_is_named_and_the_rest_is_backed_up(filled: Store, tmp_path: Path):
    with filled.reading() as session:
        lost = session.scalars(select(Image.sha256)).first()
    filled.images.path(str(lost)).unlink()
    report = back_up(filled, tmp_path / "backup.tar")
    assert report.missing == [f"images/{lost}"]
    assert report.images == 3


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_damage_anywhere_is_found(filled: Store, tmp_path: Path, where: float):
    path = back_up(filled, tmp_path / "backup.tar").path
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        places = [m.offset_data + m.size // 2 for m in tar.getmembers()]
    data[places[int(where * len(places))]] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BackupError, match=str(path)):
        verify_backup(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_backup_that_is_cut_off_is_refused(filled: Store, tmp_path: Path, share: float):
    path = back_up(filled, tmp_path / "backup.tar").path
    data = path.read_bytes()
    path.write_bytes(data[: int(share * (len(data) - 10240))])
    with pytest.raises(BackupError, match="cut off"):
        restore_backup(path, Settings(home=tmp_path / "again"))
    assert not (tmp_path / "again" / "refstar.sqlite").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "models/../../evil",
        "/etc/evil",
        "images/evil.jpg",
        "models/.hidden",
        "secrets.json",
    ],
)
def test_a_member_that_no_backup_has_is_refused(tmp_path: Path, name: str):
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(BackupError, match="does not write"):
        restore_backup(path, Settings(home=tmp_path / "again"))
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_is_refused(tmp_path: Path):
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("database.sqlite")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(BackupError, match="does not write"):
        verify_backup(path)


def test_a_home_that_has_a_store_is_left_alone(filled: Store, settings: Settings, tmp_path: Path):
    path = back_up(filled, tmp_path / "backup.tar").path
    before = state(filled)
    with pytest.raises(BackupError, match="holds a store already"):
        restore_backup(path, settings)
    assert state(filled) == before


def test_a_failed_backup_leaves_the_last_one(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = back_up(filled, tmp_path / "backup.tar").path
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        back_up(filled, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == ["backup.tar"]


def test_every_column_that_names_a_file_is_looked_after():
    hashes = {
        str(column)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, type(HASH))
        and column.type.length == HASH.length
        # not the names of files, but of what came in, and of model versions
        and "source_sha256" not in column.name
        and "version" not in column.name
    }
    hashes -= {"set_aside.reason", "row_counts.counted", "row_counts.label"}
    looked_after = {
        f"{column.class_.__tablename__}.{column.key}" for column in (*IMAGE_COLUMNS, *MASK_COLUMNS)
    }
    assert looked_after == hashes


def test_a_database_moves_with_all_its_rows(filled: Store, tmp_path: Path):
    target = f"sqlite:///{tmp_path / 'other.sqlite'}"
    steps: list[tuple[int, int | None]] = []
    moved = move_store(filled.url, target, lambda done, total: steps.append((done, total)))
    assert moved == state(filled)
    assert moved["events"].rows == 3
    assert steps[-1][0] == steps[-1][1] == sum(digest.rows for digest in moved.values())
    with pytest.raises(CopyError, match="give an empty database"):
        move_store(filled.url, target)

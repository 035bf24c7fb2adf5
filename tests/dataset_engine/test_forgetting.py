"""A person who is removed is in no table, no file and no export any more, and comes in by name only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from dataset_engine import forgetting
from dataset_engine.cli import app
from dataset_engine.cli.removal import TASKS_LEFT
from dataset_engine.cold_start.landmarks import mesh_path
from dataset_engine.forgetting import UnknownPersonError, find_person, forget, versions_with
from dataset_engine.import_shards import import_shards
from dataset_engine.ingest import ingest
from dataset_engine.settings import Settings
from dataset_engine.shards import write_version
from dataset_engine.store import Store
from dataset_engine.store.named_files import IMAGE_COLUMNS, MASK_COLUMNS
from dataset_engine.store.pairs import add_identities
from dataset_engine.store.proposals import NewProposal, add_proposals, propose_face_region
from dataset_engine.store.queries import reviewed_triplets, status_report
from dataset_engine.store.removals import NobodyForgottenError
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import (
    AnnotationProject,
    AnnotationTask,
    Event,
    Identity,
    Image,
    Pair,
    PairState,
    Proposal,
    Removal,
    RestorationInput,
    Round,
    SetAsideFile,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
GONE, STAYS = "test/person-0", "test/person-1"


@pytest.fixture
def filled(store: Store, fill: Callable[..., None]) -> Store:
    """Two people, each with a task, a proposal and a decision on each pair."""
    fill(identities=2, images=2)
    with store.reading() as session:
        pairs = session.scalars(select(Pair).order_by(Pair.identity_id.desc(), Pair.id)).all()
        for pair in pairs:
            assert pair.ref.region_sha256
    propose_face_region(store, pairs)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=7, made_at=START))
        session.flush()
        for number, pair in enumerate(pairs):
            session.add(AnnotationTask(project_id=1, task=number, pair_id=pair.id))
        session.add(Round(number=1, model_version="unet-r1", last_event_id=4, stage="done"))
        for path in ("/data/test/person-0/blurred.png", "/data/test/person-1/blurred.png"):
            session.add(SetAsideFile(path=path, reason="blurred", detail="it is"))
    for number, pair in enumerate(pairs):
        decide(store, pair.id, number)
    return store


def decide(store: Store, pair_id: int, number: int, mask: np.ndarray | None = None) -> None:
    with store.reading() as session:
        pair = session.get_one(Pair, pair_id)
        region = pair.ref.region_sha256
    painted = store.mask(region)
    painted[: 150 + number] = False
    decision = Decision(
        pair_id=pair_id,
        project_id=1,
        annotation=number,
        updated_at=START + timedelta(minutes=number),
        kind=EventKind.SUBMITTED,
        source=Source.WEBHOOK,
        actor="béa",
        accepted=True,
        mask=painted if mask is None else mask,
    )
    assert record(store, decision).new


def files_of(store: Store) -> set[str]:
    return {path.stem for blobs in (store.images, store.masks) for path in blobs.root.rglob("*.*")}


def named(store: Store) -> set[str]:
    with store.reading() as session:
        every = (select(column) for column in (*IMAGE_COLUMNS, *MASK_COLUMNS))
        return {sha256 for query in every for sha256 in session.scalars(query) if sha256}


def test_a_forgotten_person_leaves_every_table_and_every_file(filled: Store) -> None:
    done = forget(filled, GONE)
    with filled.reading() as session:
        assert session.scalars(select(Identity.name)).all() == ["person-1"]
        for table, rows in (
            (Image, 2),
            (Pair, 2),
            (Proposal, 2),
            (Event, 2),
            (PairState, 2),
            (AnnotationTask, 2),
            (SetAsideFile, 1),
        ):
            assert len(session.scalars(select(table)).all()) == rows, table
        assert status_report(session).images == 2
    assert files_of(filled) == named(filled)
    assert (done.removed["images"], done.removed["events"], done.removed["files"]) == (2, 2, 4)
    assert {task[0] for task in done.tasks} == {"home"}
    assert len(done.tasks) == 2
    report = (filled.home / "reports" / "set-aside.csv").read_text()
    assert "person-1" in report
    assert "person-0" not in report


def test_the_meshes_of_a_forgotten_person_go_with_the_images(filled: Store) -> None:
    with filled.reading() as session:
        hashes = session.scalars(select(Image.sha256)).all()
    for sha256 in hashes:
        mesh_path(filled.home, sha256).parent.mkdir(parents=True, exist_ok=True)
        mesh_path(filled.home, sha256).write_bytes(b"mesh")
    forget(filled, GONE)
    with filled.reading() as session:
        kept = set(session.scalars(select(Image.sha256)))
    assert len(kept) == 2
    assert {sha256 for sha256 in hashes if mesh_path(filled.home, sha256).exists()} == kept


def test_the_record_says_that_it_was_done_and_not_to_whom(filled: Store) -> None:
    with filled.reading() as session:
        hashes = set(session.scalars(select(Image.sha256).join(Identity).where(Identity.id == 1)))
    done = forget(filled, GONE)
    with filled.reading() as session:
        kept = session.get_one(Removal, done.removal_id)
        assert kept.files == []
        assert kept.finished_at is not None
        assert "person" not in f"{kept.removed} {kept.salt} {kept.digest}"
    if filled.engine.dialect.name == "sqlite":
        filled.close()
        data = b"".join(path.read_bytes() for path in filled.home.glob("refstar.sqlite*"))
        assert b"person-1" in data
        assert b"person-0" not in data
        assert not any(sha256.encode() in data for sha256 in hashes)


def test_the_events_of_others_can_still_not_be_deleted(filled: Store) -> None:
    forget(filled, GONE)
    with pytest.raises(DBAPIError, match="append-only"), filled.writing() as session:
        session.execute(delete(Event))
    with filled.reading() as session:
        assert len(session.scalars(select(Event)).all()) == 2


def test_a_decision_after_a_removal_still_calls_for_a_new_round(filled: Store) -> None:
    forget(filled, GONE)  # the newest events are this person's
    with filled.reading() as session:
        pair = session.scalars(select(Pair.id)).first()
    assert pair is not None
    decide(filled, pair, 9)
    with filled.reading() as session:
        newest = max(session.scalars(select(Event.id)))
        assert newest > session.get_one(Round, 1).last_event_id


def test_a_file_that_another_person_shares_stays(filled: Store) -> None:
    mask = np.zeros((512, 512), bool)
    mask[300:320, 250:260] = True
    with filled.reading() as session:
        pairs = dict(session.execute(select(Pair.identity_id, Pair.id)).all())
    for number, pair_id in enumerate(pairs.values(), start=20):
        decide(filled, pair_id, number, mask)
    done = forget(filled, GONE)
    assert done.shared == 3  # the regions of both are the same, too
    assert files_of(filled) == named(filled)
    assert filled.masks.read(filled.put_mask(mask))


def test_a_mask_without_a_pixel_stays_since_anybody_may_be_storing_it(filled: Store) -> None:
    empty = np.zeros((512, 512), bool)
    with filled.reading() as session:
        pair_id = session.scalars(select(Pair.id).where(Pair.identity_id == 1)).first()
    assert pair_id is not None
    decide(filled, pair_id, 20, empty)
    sha256 = filled.put_mask(empty)
    forget(filled, GONE)
    assert filled.masks.path(sha256).exists()


@pytest.mark.parametrize("stop_at", [0, 3])
def test_a_removal_that_was_stopped_is_finished_by_the_next_call(
    filled: Store, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    unlinked = 0
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal unlinked
        if self.suffix in (".jpg", ".png"):
            if unlinked == stop_at:
                raise Stopped
            unlinked += 1
        real(self, missing_ok=missing_ok)

    monkeypatch.setattr(forgetting, "BATCH", 2)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(Stopped):
        forget(filled, GONE)
    monkeypatch.setattr(Path, "unlink", real)
    assert find_person(filled, GONE) is None
    first = forget(filled, GONE)
    assert files_of(filled) == named(filled)
    again = forget(filled, "person-0")  # the source is known by the other person
    assert again.removal_id == first.removal_id
    with filled.reading() as session:
        assert len(session.scalars(select(Removal)).all()) == 1


def test_a_name_of_nobody_or_of_several_is_refused(filled: Store) -> None:
    with filled.writing() as session:
        add_identities(session, ["person-0"], seed=0, source="other", licence="none")
    with pytest.raises(UnknownPersonError, match="other/person-0, test/person-0"):
        forget(filled, "person-0")
    with pytest.raises(UnknownPersonError, match="nobody called 'person-9'"):
        forget(filled, "person-9")
    assert find_person(filled, "person-1") is not None


def test_a_restoration_input_is_forgotten_too(filled: Store) -> None:
    files = [filled.images.put(b"lq"), filled.images.put(b"reference"), filled.masks.put(b"region")]
    with filled.writing() as session:
        session.add(
            RestorationInput(
                source="RealRef60",
                name="00",
                licence="none",
                source_sha256="a" * 64,
                reference_source_sha256="b" * 64,
                lq_sha256=files[0],
                reference_sha256=files[1],
                region_sha256=files[2],
                lq_aligned=True,
            )
        )
    forget(filled, "RealRef60/00")
    assert not files_of(filled) & set(files)
    with filled.reading() as session:
        assert session.scalars(select(RestorationInput)).all() == []
        assert len(session.scalars(select(Identity)).all()) == 2


def test_the_next_export_is_without_the_person_and_the_old_version_is_named(
    filled: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    allow = frozenset({"near-duplicate"})
    write_version(reviewed_triplets(filled), out, allow=allow)
    forget(filled, GONE)
    write_version(reviewed_triplets(filled), out, allow=allow)
    assert [path.name for path in versions_with(GONE, out)] == ["v001"]
    assert [path.name for path in versions_with(STAYS, out)] == ["v001", "v002"]


def test_a_published_set_brings_a_forgotten_person_back_by_name_only(
    filled: Store, settings: Settings, tmp_path: Path
) -> None:
    write_version(reviewed_triplets(filled), tmp_path, allow=frozenset({"near-duplicate"}))
    forget(filled, GONE)
    report = import_shards(filled, settings, tmp_path)
    assert (report.added, report.left) == (0, 2)
    assert "--again test/person-0" in report.examples[0].reason
    report = import_shards(filled, settings, tmp_path, again=[GONE])
    assert (report.added, report.left) == (2, 0)


def test_folders_bring_a_forgotten_person_back_by_name_only(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "people"
    for name in ("anna", "ben"):
        (folder / name).mkdir(parents=True)
        (folder / name / "broken.png").write_bytes(b"no picture")
    ingest(store, settings, folder, workers=1)
    forget(store, "people/anna")
    report = ingest(store, settings, folder, workers=1)
    assert report.reasons["forgotten"] == 1
    with pytest.raises(NobodyForgottenError, match="ben"):
        ingest(store, settings, folder, workers=1, again=["ben"])
    assert "forgotten" not in ingest(store, settings, folder, workers=1, again=["anna"]).reasons
    with store.reading() as session:
        assert len(session.scalars(select(Identity)).all()) == 2
        assert len(session.scalars(select(Removal)).all()) == 1  # that it was done stays on record


def test_proposals_for_somebody_who_is_gone_meanwhile_are_passed_over(filled: Store) -> None:
    with filled.reading() as session:
        pairs = session.scalars(select(Pair.id)).all()
    forget(filled, GONE)
    mask = np.zeros((512, 512), bool)
    kept = add_proposals(filled, "unet-r2", 2, [NewProposal(pair, mask, 0.5) for pair in pairs])
    assert kept == 2


def test_the_command_says_what_it_cannot_reach(
    filled: Store, settings: Settings, tmp_path: Path
) -> None:
    allow = frozenset({"near-duplicate"})
    write_version(reviewed_triplets(filled), filled.home / "refsel-hq", allow=allow)
    if settings.database_url is not None:
        pytest.skip("the command reads the database's address from the environment")
    home = ["--home", str(filled.home)]
    asked = CliRunner().invoke(app, [*home, "forget", GONE], input="n\n")
    assert asked.exit_code == 1
    assert find_person(filled, GONE) is not None
    said = CliRunner().invoke(app, [*home, "forget", GONE, "--yes"])
    assert said.exit_code == TASKS_LEFT
    for words in (
        "removed: 2 images",
        "task 2 of project 7",
        "Label Studio is not running",
        "v001",
    ):
        assert words in said.output
    again = CliRunner().invoke(app, [*home, "forget", GONE])
    assert again.exit_code == TASKS_LEFT

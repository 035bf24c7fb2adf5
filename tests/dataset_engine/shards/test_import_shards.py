"""A published set comes back into a store: the same samples, once, and nobody's decision overridden."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import func, select

from dataset_engine.import_shards import import_shards
from dataset_engine.settings import Settings
from dataset_engine.shards import RefSelShards, ShardError, Triplet, write_version
from dataset_engine.store import Store
from dataset_engine.store.blobs import encode_jpeg
from dataset_engine.store.pairs import add_identities, add_pairs
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import reviewed_triplets, status_report
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import AnnotationProject, Event, Identity, Image, Pair
from dataset_engine.taxonomy import Conflict, Split, Status


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and its export of 16 reviewed pairs of 8 people in all splits, of several rounds."""
    folder = tmp_path_factory.mktemp("made")
    with Store(Settings(home=folder / "home")) as store:
        fill(store)
        with store.reading() as session:
            pairs = session.scalars(select(Pair).order_by(Pair.id)).all()
            regions = {image.id: image.region_sha256 for image in session.scalars(select(Image))}
        for pair in pairs:
            if pair.id % 3:
                mask = store.mask(regions[pair.ref_id])
                version = f"unet-r{pair.id % 3}"
                add_proposals(store, version, pair.id % 3, [NewProposal(pair.id, mask, 0.9)])
            decide(store, pair, regions[pair.ref_id], cut=20 * (pair.id % 4))
        write_version(reviewed_triplets(store), folder / "out")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of the store that the set was exported from."""
    shutil.copytree(made / "home", tmp_path / "home")
    with Store(Settings(home=tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path, database_url: str | None) -> Iterator[Store]:
    """A second, empty store."""
    with Store(Settings(home=tmp_path / "other", database_url=database_url)) as opened:
        yield opened


@pytest.fixture
def published(made: Path, tmp_path: Path) -> Path:
    """A copy of the export."""
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def fill(store: Store) -> None:
    """Eight people with two blurred pictures each, both ordered pairs of them."""
    yy, xx = np.mgrid[:512, :512]
    names = [f"person-{number}" for number in range(8)]
    with store.writing() as session:
        people = add_identities(session, names, seed=0, source="test", licence="none")
        for number, name in enumerate(names):
            for shot in range(2):
                random = np.random.default_rng([number, shot])
                small = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                picture = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
                sha256 = store.images.put(encode_jpeg(np.asarray(picture, np.uint8)))
                region = ((xx - 256) / 150) ** 2 + ((yy - 270 - shot) / 190) ** 2 < 1
                session.add(
                    Image(
                        identity_id=people[name].id,
                        name=f"{name}/{shot}.png",
                        source_sha256=sha256,
                        sha256=sha256,
                        region_sha256=store.put_mask(region),
                        phash=f"{random.integers(0, 2**63):016x}",
                        sharpness=1.0,
                        five_points=[[193.0 + shot, 240.25]] * 5,
                    )
                )
            session.flush()
            add_pairs(session, people[name].id, seed=0, limit=2)


def decide(store: Store, pair: Pair, region: str, cut: int, actor: str = "béa") -> None:
    mask = store.mask(region).copy()
    mask[300 : 300 + cut] = False
    record(
        store,
        Decision(
            pair_id=pair.id,
            project_id=project(store),
            annotation=1000 * cut + pair.id,
            updated_at=datetime(2026, 1, 1 + cut % 20, tzinfo=UTC),
            kind=EventKind.SUBMITTED,
            source=Source.SYNC,
            actor=actor,
            accepted=True,
            mask=mask,
            conflicts=frozenset({Conflict.MOUTH} if cut else ()),
        ),
    )


def project(store: Store) -> int:
    with store.writing() as session:
        found = session.scalars(select(AnnotationProject)).first()
        if found is None:
            found = AnnotationProject(server="home", project=1)
            session.add(found)
            session.flush()
        return found.id


def told(store: Store) -> list[Triplet]:
    """What an export would take of a store, without where its files lie."""
    nowhere = dict.fromkeys(("gt", "ref", "gt_region", "ref_region", "mask"), Path())
    found = sorted(reviewed_triplets(store), key=lambda triplet: triplet.key)
    return [replace(triplet, **nowhere) for triplet in found]


def counts(store: Store) -> tuple[int, ...]:
    with store.reading() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Identity, Image, Pair, Event)
        )


def test_an_export_of_what_was_imported_is_the_same_byte_for_byte(
    store: Store,
    other: Store,
    settings: Settings,
    published: Path,
    tmp_path: Path,
    tree: Callable[[Path], dict[str, bytes]],
) -> None:
    report = import_shards(other, settings, published)
    assert (report.samples, report.added, report.left, report.kept) == (16, 16, 0, 0)
    assert (report.identities, report.images) == (8, 16)
    assert told(other) == told(store)
    assert {triplet.round for triplet in told(other)} == {0, 1, 2}
    assert {triplet.status for triplet in told(other)} == {Status.ACCEPTED, Status.ADJUSTED}
    write_version(reviewed_triplets(other), tmp_path / "again")
    assert tree(tmp_path / "again") == tree(published)
    with other.reading() as session:
        events = session.scalars(select(Event)).all()
        assert {(event.source, event.actor) for event in events} == {("import", "béa")}
        images = session.scalars(select(Image)).all()
        assert all(image.sharpness > 0 for image in images)


def test_importing_again_adds_nothing(other: Store, settings: Settings, published: Path) -> None:
    import_shards(other, settings, published)
    before = counts(other)
    steps: list[tuple[int, int | None]] = []
    again = import_shards(other, settings, published, progress=lambda *step: steps.append(step))
    assert (again.added, again.known, again.images) == (0, 16, 0)
    assert counts(other) == before
    assert steps[-1] == (16, 16)


def test_what_a_person_decided_here_stays_and_what_is_open_here_is_decided(
    store: Store, settings: Settings, published: Path
) -> None:
    before = told(store)
    report = import_shards(store, settings, published)
    assert (report.kept, report.added, report.known) == (16, 0, 0)
    assert told(store) == before


def test_a_person_overrides_what_was_imported(
    other: Store, settings: Settings, published: Path
) -> None:
    import_shards(other, settings, published)
    with other.reading() as session:
        pair = session.scalars(select(Pair).order_by(Pair.key)).first()
        assert pair is not None
        region = pair.ref.region_sha256
    decide(other, pair, region, cut=30, actor="carl")
    (mine,) = [triplet for triplet in told(other) if triplet.key == pair.key]
    assert (mine.annotator, mine.conflicts) == ("carl", (Conflict.MOUTH,))
    assert import_shards(other, settings, published).known == 16
    (mine,) = [triplet for triplet in told(other) if triplet.key == pair.key]
    assert mine.annotator == "carl"


def test_a_newer_version_brings_its_decisions(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    import_shards(other, settings, published)
    with store.reading() as session:
        pair = session.scalars(select(Pair).order_by(Pair.key)).first()
        assert pair is not None
        region = pair.ref.region_sha256
    decide(store, pair, region, cut=70, actor="dora")
    write_version(reviewed_triplets(store), published)
    report = import_shards(other, settings, published)
    assert (report.added, report.known) == (1, 15)
    assert told(other) == told(store)


def test_an_identity_in_another_split_here_is_set_aside_with_its_triplets(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    with store.reading() as session:
        person = session.scalars(select(Identity).where(Identity.split == Split.TRAIN)).first()
    assert person is not None
    with other.writing() as session:
        add_identities(session, [person.name], 0, person.source, "none", split=Split.TEST)
    report = import_shards(other, settings, published)
    assert (report.added, report.left) == (14, 2)
    assert "is in split test here and in train there" in report.examples[0].reason
    assert person.name not in {triplet.identity for triplet in told(other)}


def test_an_image_of_somebody_else_here_is_set_aside(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    import_shards(other, settings, published)
    first = told(store)[0]
    changed = [
        replace(triplet, identity="test/somebody") if triplet.key == first.key else triplet
        for triplet in reviewed_triplets(store)
    ]
    write_version(changed, published)
    report = import_shards(other, settings, published)
    assert (report.added, report.known, report.left) == (0, 15, 1)
    assert f"an image of {first.identity} here, not of test/somebody" in report.examples[0].reason
    with other.reading() as session:
        assert session.scalar(select(Identity).where(Identity.name == "somebody")) is None


def test_a_licence_is_taken_where_none_was_known_and_else_has_to_agree(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    first, *_, last = sorted({triplet.identity for triplet in told(store)})
    with other.writing() as session:
        for identity, licence in ((first, "unknown"), (last, "CC0")):
            source, name = identity.split("/")
            split = next(t.split for t in told(store) if t.identity == identity)
            add_identities(session, [name], 0, source, licence, split=split)
    report = import_shards(other, settings, published)
    assert (report.added, report.left) == (14, 2)
    assert "under the licence 'CC0' here" in report.examples[0].reason
    licences = {triplet.identity: triplet.licence for triplet in told(other)}
    assert licences[first] == "none"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"annotator": "x" * 256}, "annotator is not a text of at most 255"),
        ({"licence": "a\0b"}, "licence is not a text"),
        ({"key": "k" * 60}, "key is not a text of at most 40"),
        ({"round": 2**40}, "there is no round"),
        ({"round": -1}, "there is no round"),
        ({"model_version": "v" * 65}, "model_version is not a text"),
        ({"status": Status.REJECTED}, "only reviewed"),
        ({"identity": "test/"}, "names nobody"),
    ],
)
def test_what_the_store_cannot_hold_is_set_aside(
    store: Store,
    other: Store,
    settings: Settings,
    published: Path,
    tmp_path: Path,
    changes: dict[str, object],
    reason: str,
) -> None:
    first, *rest = reviewed_triplets(store)
    write_version([replace(first, **changes), *rest], tmp_path / "odd")  # type: ignore[arg-type]
    report = import_shards(other, settings, tmp_path / "odd")
    assert (report.added, report.left) == (15, 1)
    assert reason in report.examples[0].reason


def test_a_mask_outside_the_face_region_is_set_aside(
    store: Store, other: Store, settings: Settings, published: Path, tmp_path: Path
) -> None:
    first, *rest = reviewed_triplets(store)
    mask = store.masks.path(store.put_mask(np.ones((512, 512), np.bool_)))
    write_version(
        [replace(first, mask=mask), *rest],
        tmp_path / "odd",
        allow=frozenset({"mask-outside-region"}),
    )
    report = import_shards(other, settings, tmp_path / "odd")
    assert (report.added, report.left) == (15, 1)
    assert "outside the face region" in report.examples[0].reason


def test_a_damaged_sample_is_set_aside_and_the_others_come_in(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    shards = RefSelShards(published, "train")
    path = published / "v001" / "train" / "refsel-hq-000000.tar"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(2000)
        file.write(b"\0\1\2\3")
    report = import_shards(other, settings, published)
    assert (report.added, report.left) == (15, 1)
    assert report.examples[0].key == shards.key(0)
    with other.reading() as session:
        assert status_report(session).pairs[Status.UNLABELLED] == 0


def test_what_is_no_published_set_is_an_error(
    other: Store, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ShardError, match="engine export"):
        import_shards(other, settings, tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
import dataset_engine.import_shards as module
from dataset_engine.settings import Settings
from dataset_engine.store import Store

module.BATCH = 4
settings = Settings(home=Path(sys.argv[1]))
def advance(done, total):
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
with Store(settings) as store:
    module.import_shards(store, settings, Path(sys.argv[2]), progress=advance)
"""


@pytest.mark.slow
def test_an_import_that_was_killed_goes_on_where_it_was(
    store: Store, other: Store, settings: Settings, published: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(other.home), str(published), "10"],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "REFSTAR_DATABASE_URL": other.url},
    )
    assert killed.returncode == -signal.SIGKILL
    report = import_shards(other, settings, published)
    assert (report.known, report.added) == (12, 4)
    assert told(other) == told(store)

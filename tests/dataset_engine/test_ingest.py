"""Folders of photographs become images, regions and pairs; what cannot be used is set aside."""

from __future__ import annotations

import csv
import os
import shutil
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from sqlalchemy import select

from dataset_engine.ingest import ingest
from dataset_engine.ingest_files import Left, images_below
from dataset_engine.ingest_report import IngestReport, SetAsideList
from dataset_engine.sample import write_sample
from dataset_engine.settings import Settings
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.queries import status_report
from dataset_engine.store.tables import Identity, Image, Pair, SetAsideFile

FACES = os.environ.get("REFSTAR_FACES")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    write_sample(folder, identities=2, shots=2, seed=0)
    return folder


@pytest.fixture
def folder(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "faces"))


def test_a_sample_comes_in_with_exact_regions_and_pairs(
    store: Store, settings: Settings, folder: Path
) -> None:
    report = ingest(store, settings, folder)
    assert (report.added, report.known, report.left, report.pairs) == (4, 0, [], 4)
    with store.reading() as session:
        image = session.scalars(select(Image).where(Image.name == "sample-0001/01.png")).one()
        assert len(session.scalars(select(Pair)).all()) == 4
    picture = read_rgb(store.images.path(image.sha256))
    source = read_rgb(folder / "sample-0001" / "01.png")
    assert picture.shape == (512, 512, 3)
    assert np.abs(picture.astype(int) - source.astype(int)).mean() < 1.5
    region = read_rgb(folder / "sample-0001" / "01.region.png")[..., 0] > 127
    assert np.array_equal(store.mask(image.region_sha256), region)


def test_a_second_run_adds_only_what_is_new(store: Store, settings: Settings, folder: Path) -> None:
    ingest(store, settings, folder)
    again = ingest(store, settings, folder)
    assert (again.added, again.known, again.pairs) == (0, 4, 0)
    shutil.copytree(folder / "sample-0000", folder / "somebody")
    for path in (folder / "somebody").glob("01.*"):
        path.unlink()
    twin = ingest(store, settings, folder)
    assert (twin.added, twin.known) == (0, 4)
    assert twin.reasons == {"duplicate": 1}


def test_a_copy_of_an_image_is_set_aside_and_another_shot_is_not(
    store: Store, settings: Settings, folder: Path
) -> None:
    def copy(name: str) -> None:
        picture = read_rgb(folder / "sample-0000" / "00.png")[..., ::-1]
        assert cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 40])
        for suffix in ("face.json", "region.png"):
            shutil.copy(
                folder / "sample-0000" / f"00.{suffix}",
                (folder / name).with_suffix(f".{suffix}"),
            )

    copy("sample-0000/copy.jpg")
    report = ingest(store, settings, folder)
    assert (report.added, report.reasons) == (4, {"near_duplicate": 1})
    assert report.left[0].path.name == "copy.jpg"
    assert "sample-0000/00.png" in report.left[0].detail
    (folder / "sample-0000" / "00.png").unlink()
    copy_after = ingest(store, settings, folder)  # compared with what an earlier run stored
    assert (copy_after.added, copy_after.reasons) == (0, {"near_duplicate": 1})


def test_close_hashes_alone_set_nothing_aside(
    store: Store, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_engine.sources.keeper.NEAR_DUPLICATE_BITS", 64)
    report = ingest(store, settings, folder)
    assert (report.added, report.left) == (4, [])


def test_bad_files_are_set_aside_with_their_reason(
    store: Store, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    person = folder / "sample-0000"
    (person / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    (person / "notes.txt").write_text("not an image, and not counted")
    outside = tmp_path / "outside.png"
    shutil.copy(person / "00.png", outside)
    (person / "link.png").symlink_to(outside)
    (person / "dangling.png").symlink_to(tmp_path / "nothing.png")
    (person / "02.png").write_bytes((person / "00.png").read_bytes()[:5000])
    report = ingest(store, settings, folder)
    assert report.added == 4
    assert report.reasons == {"unreadable": 2, "outside_folder": 2}
    with store.reading() as session:
        assert sum(status_report(session).set_aside.values()) == 4
    assert report.report is not None
    with report.report.open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["file"]).name for row in rows} == {
        "broken.jpg",
        "link.png",
        "dangling.png",
        "02.png",
    }
    assert all(row["detail"] for row in rows)


def beside(folder: Path, name: str) -> Path:
    """A path for a picture of a person of its own, with the sidecars of the first rendered face."""
    path = folder / name
    path.parent.mkdir()
    for suffix in ("face.json", "region.png"):
        shutil.copy(folder / "sample-0000" / f"00.{suffix}", path.with_suffix(f".{suffix}"))
    return path


def test_every_kind_of_picture_comes_in_as_rgb(
    store: Store, settings: Settings, folder: Path
) -> None:
    face = PIL.Image.open(folder / "sample-0000" / "00.png").convert("RGB")
    alpha = face.copy()
    alpha.putalpha(200)
    kinds = {
        "cmyk/0.jpg": face.convert("CMYK"),
        "gray/0.png": face.convert("L"),
        "alpha/0.png": alpha,
        "palette/0.png": face.convert("P"),
        "webp/0.webp": face,
    }
    for name, picture in kinds.items():
        picture.save(beside(folder, name))
    deep = np.asarray(face, np.uint16)[..., ::-1] * 257
    assert cv2.imwrite(str(beside(folder, "sixteen/0.png")), deep)
    face.save(beside(folder, "suffix/0.jpg"), format="PNG")  # its name says JPEG
    report = ingest(store, settings, folder, workers=1)
    # one picture in two forms that keep its pixels is one picture, whoever's it is said to be
    assert report.reasons == {"duplicate": 2}
    assert {left.path.parent.name for left in report.left} == {"sixteen", "suffix"}
    with store.reading() as session:
        names = set(session.scalars(select(Image.name)))
        assert set(kinds) <= names
        for image in session.scalars(select(Image)):
            assert read_rgb(store.images.path(image.sha256)).shape == (512, 512, 3)


def test_what_claims_to_be_a_picture_is_set_aside_before_it_does_harm(
    store: Store, settings: Settings, folder: Path
) -> None:
    person = folder / "sample-0000"
    face = PIL.Image.open(person / "00.png").convert("RGB")
    face.save(person / "half.jpg", quality=95)
    whole = (person / "half.jpg").read_bytes()
    (person / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (person / "zero.jpg").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        bomb += struct.pack(">I", len(data)) + kind + data
        bomb += struct.pack(">I", zlib.crc32(kind + data))
    (person / "bomb.png").write_bytes(bomb)
    os.mkfifo(person / "pipe.jpg")
    (person / "circle.jpg").symlink_to(person / "circle.jpg")
    report = ingest(store, settings, folder, workers=1)
    assert report.added == 4
    assert {left.path.name: left.reason for left in report.left} == {
        "half.jpg": "unreadable",
        "zero.jpg": "unreadable",
        "bomb.png": "too_large",
        "pipe.jpg": "unreadable",
        "circle.jpg": "unreadable",
    }


def test_images_are_found_in_order_and_hidden_ones_are_not(tmp_path: Path) -> None:
    names = ["b/x.jpg", "a-b.png", "b.jpg", "a/z.JPG", "a/c/y.webp", "b/x.region.png", "notes.txt"]
    hidden = [".h.jpg", ".thumbnails/t.jpg", "a/._z.jpg"]
    for name in names + hidden:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path) for path in images_below(tmp_path)]
    assert found == sorted(map(Path, names[:5]))
    assert list(images_below(tmp_path / "absent")) == [tmp_path / "absent"]


def test_of_many_files_that_are_set_aside_all_are_listed_and_few_are_held(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(numbers: range) -> IngestReport:
        report = IngestReport()
        left = SetAsideList(store, report, f"{tmp_path}/")
        for number in numbers:
            left.add(Left(tmp_path / f"{number:04d}.jpg", "blurred", "so it is"))
        left.close()
        return report

    def listed(report: IngestReport) -> list[str]:
        assert report.report is not None
        with report.report.open(newline="") as file:
            return [Path(row["file"]).name for row in csv.DictReader(file)]

    first = run(range(450))
    assert (first.reasons, len(first.left)) == ({"blurred": 450}, 100)
    assert listed(first) == [f"{number:04d}.jpg" for number in range(450)]
    monkeypatch.setattr(
        "dataset_engine.ingest_report.now", lambda: datetime(2020, 1, 1, tzinfo=UTC)
    )  # a clock that was set back takes nothing off the list
    assert len(listed(run(range(300, 500)))) == 500
    monkeypatch.undo()
    assert listed(run(range(499, 500))) == ["0499.jpg"]
    assert run(range(0)).report is None


def test_a_file_that_was_mended_is_taken_in_and_forgotten_as_bad(
    store: Store, settings: Settings, folder: Path
) -> None:
    path = folder / "sample-0001" / "01.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    assert ingest(store, settings, folder).reasons == {"unreadable": 1}
    path.write_bytes(whole)
    assert ingest(store, settings, folder).added == 1
    with store.reading() as session:
        assert session.scalars(select(SetAsideFile)).all() == []


def test_a_name_that_is_not_utf8_is_set_aside_under_a_printable_one(
    store: Store, settings: Settings, folder: Path
) -> None:
    for name in (b"sample-0000/\xff.jpg", b"\xfe/00.png", b"sample-0001/a\n.jpg"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture")
    report = ingest(store, settings, folder)
    assert (report.added, report.reasons) == (4, {"unreadable": 3})
    with store.reading() as session:
        paths = set(session.scalars(select(SetAsideFile.path)))
    names = (r"sample-0000/\xff.jpg", r"\xfe/00.png", r"sample-0001/a\n.jpg")
    assert paths == {f"{folder.resolve()}/{name}" for name in names}


def test_a_folder_is_the_same_however_it_is_spelled(
    store: Store, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sample-0000" / "broken.jpg").write_bytes(b"no picture")
    ingest(store, settings, folder)
    monkeypatch.chdir(folder)
    (folder.parent / "link").symlink_to(folder)
    for spelled in (Path(), Path("../faces"), folder.parent / "link"):
        again = ingest(store, settings, spelled)
        assert (again.added, again.known, again.reasons) == (0, 4, {"unreadable": 1})
    with store.reading() as session:
        broken = folder.resolve() / "sample-0000" / "broken.jpg"
        assert session.scalars(select(SetAsideFile.path)).all() == [str(broken)]
        assert set(session.scalars(select(Identity.source))) == {"faces"}
        assert len(session.scalars(select(Identity)).all()) == 2


def test_the_same_folder_names_in_two_sources_are_different_people(
    store: Store, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    ingest(store, settings, folder)
    other = tmp_path / "others"
    write_sample(other, identities=1, shots=2, seed=7)
    assert ingest(store, settings, other).added == 2
    with store.reading() as session:
        people = session.execute(select(Identity.source, Identity.name)).all()
        assert sorted(map(tuple, people)) == [
            ("faces", "sample-0000"),
            ("faces", "sample-0001"),
            ("others", "sample-0000"),
        ]
        for pair in session.scalars(select(Pair)):
            assert pair.gt.identity_id == pair.ref.identity_id == pair.identity_id


def test_a_licence_given_later_replaces_the_earlier_one(
    store: Store, settings: Settings, folder: Path
) -> None:
    def licences() -> set[str]:
        with store.reading() as session:
            return set(session.scalars(select(Identity.licence)))

    assert ingest(store, settings, folder).relicensed == 0
    assert licences() == {"unknown"}
    given = settings.model_copy(update={"licence": "research-only"})
    assert ingest(store, given, folder).relicensed == 2
    assert ingest(store, settings, folder).relicensed == 0  # none given: nothing is forgotten
    assert licences() == {"research-only"}


def test_the_list_of_set_aside_files_is_that_of_the_whole_store(
    store: Store, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    def listed(report: Path | None) -> list[str]:
        assert report is not None
        with report.open(newline="") as file:
            return [Path(row["file"]).name for row in csv.DictReader(file)]

    other = tmp_path / "FACES"  # databases may take it for the same name
    (other / "x").mkdir(parents=True)
    (other / "x" / "other.jpg").write_bytes(b"no picture")
    broken = folder / "sample-0000" / "broken.jpg"
    broken.write_bytes(b"no picture")
    assert listed(ingest(store, settings, other).report) == ["other.jpg"]
    assert listed(ingest(store, settings, folder).report) == ["other.jpg", "broken.jpg"]
    broken.unlink()
    assert listed(ingest(store, settings, folder).report) == ["other.jpg"]
    (other / "x" / "other.jpg").unlink()
    (other / "x" / "next.jpg").write_bytes(b"no picture")
    assert listed(ingest(store, settings, other).report) == ["next.jpg"]


def test_progress_counts_files_that_are_known_too(
    store: Store, settings: Settings, folder: Path
) -> None:
    for _ in range(2):
        told: list[tuple[int, int | None]] = []
        ingest(store, settings, folder, progress=lambda *step: told.append(step))  # noqa: B023
        assert told == [(step, 6) for step in range(1, 7)]


def test_each_identity_has_its_pairs_in_a_transaction_of_its_own(
    store: Store, settings: Settings, folder: Path
) -> None:
    seen: list[int] = []

    def look(done: int, total: int | None) -> None:
        with store.writing() as session:  # would wait for ever if ingest held the lock
            seen.append(len(session.scalars(select(Pair)).all()))

    ingest(store, settings, folder, progress=look)
    assert seen == [0, 0, 0, 0, 2, 4]


def test_an_empty_or_absent_folder_says_what_is_expected(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    for wrong in (tmp_path / "absent", tmp_path):
        with pytest.raises(NotADirectoryError, match="folder"):
            ingest(store, settings, wrong)


@pytest.mark.skipif(not FACES, reason="REFSTAR_FACES names no folder of photographs")
@pytest.mark.slow
def test_real_photographs_are_aligned_and_their_faces_found(
    store: Store, settings: Settings
) -> None:
    report = ingest(store, settings, Path(str(FACES)))
    assert report.added >= 12
    assert report.pairs >= 20
    with store.reading() as session:
        for image in session.scalars(select(Image)):
            share = store.mask(image.region_sha256).mean()
            assert 0.1 < share < 0.6, image.name
            eyes = np.array(image.five_points)[:2]
            assert abs(eyes[:, 1] - 240).max() < 40, image.name

"""Folders of photographs become images, regions and pairs; what cannot be used is set aside."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from dataset_engine.ingest import ingest
from dataset_engine.sample import write_sample
from dataset_engine.settings import Settings
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.queries import status_report
from dataset_engine.store.tables import Image, Pair, SetAsideFile

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
    monkeypatch.setattr("dataset_engine.ingest.NEAR_DUPLICATE_BITS", 64)
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

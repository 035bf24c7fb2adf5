"""Degraded pictures with references are kept to be restored, and never become pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import func, select

from dataset_engine.faces.prepare import Reason
from dataset_engine.ingest import ingest
from dataset_engine.sample import write_sample
from dataset_engine.settings import Settings
from dataset_engine.sources.form import Form
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.pairs import choose_seeds
from dataset_engine.store.queries import reviewed_triplets, status_report, undecided
from dataset_engine.store.tables import Identity, Image, Pair, RestorationInput

Put = Callable[..., Path]


def inputs(store: Store) -> dict[str, RestorationInput]:
    with store.reading() as session:
        return {row.name: row for row in session.scalars(select(RestorationInput))}


@pytest.mark.usefixtures("cheap_faces")
def test_inputs_are_kept_apart_from_everything_that_is_annotated_or_exported(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    for number, name in enumerate(("00", "01")):
        put(f"RealRef60/LQ/{name}.png", number)
        put(f"RealRef60/ref/{name}.jpg", 10 + number)
    given = settings.model_copy(update={"licence": "research-only"})
    report = ingest(store, given, tmp_path / "RealRef60", workers=1)
    assert (report.inputs, report.added, report.pairs, report.left) == (2, 0, 0, [])
    rows = inputs(store)
    assert set(rows) == {"00", "01"}
    row = rows["00"]
    assert (row.source, row.licence, row.lq_aligned) == ("RealRef60", "research-only", True)
    assert read_rgb(store.images.path(row.lq_sha256)).shape == (512, 512, 3)
    assert read_rgb(store.images.path(row.reference_sha256)).shape == (512, 512, 3)
    assert store.mask(row.region_sha256).any()
    assert row.lq_sha256 != row.reference_sha256
    assert list(undecided(store)) == []
    assert list(reviewed_triplets(store)) == []
    with store.writing() as session:
        assert choose_seeds(session, 10) == []
        for table in (Identity, Image, Pair):
            assert session.scalar(select(func.count()).select_from(table)) == 0
        assert status_report(session).images == 0


@pytest.mark.usefixtures("cheap_faces")
def test_a_second_run_adds_nothing_and_a_changed_file_replaces_its_input(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    put("real/lq/a.png", 1)
    put("real/reference/a.png", 2)
    ingest(store, settings, tmp_path / "real", workers=1)
    before = inputs(store)["a"]
    again = ingest(store, settings, tmp_path / "real", workers=1)
    assert (again.inputs, again.known) == (0, 1)
    put("real/lq/a.png", 3)
    changed = ingest(store, settings, tmp_path / "real", workers=1)
    assert (changed.inputs, changed.known) == (1, 0)
    after = inputs(store)["a"]
    assert (after.id, after.reference_sha256) == (before.id, before.reference_sha256)
    assert after.lq_sha256 != before.lq_sha256


@pytest.mark.usefixtures("cheap_faces")
def test_what_has_no_counterpart_or_cannot_be_used_is_set_aside(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    for number, name in enumerate(("good", "alone", "blurred_reference", "broken")):
        put(f"real/LQ/{name}.png", number)
    for number, name in enumerate(("good", "unasked", "broken")):
        put(f"real/ref/{name}.png", 10 + number)
    put("real/ref/blurred_reference.png", Reason.BLURRED)
    put("real/LQ/broken.png", Reason.UNREADABLE)
    (tmp_path / "real" / "LQ" / "link.png").symlink_to(put("outside.png", 5))
    put("real/ref/link.png", 6)
    report = ingest(store, settings, tmp_path / "real", workers=1)
    assert set(inputs(store)) == {"good"}
    assert {left.path.name: left.reason for left in report.left} == {
        "alone.png": "no_reference",
        "unasked.png": "no_input",
        "blurred_reference.png": "blurred",
        "broken.png": "unreadable",
        "link.png": "outside_folder",
    }


def test_a_degraded_face_is_aligned_and_one_that_cannot_be_found_is_taken_as_it_is(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    rendered = tmp_path / "rendered"
    write_sample(rendered, identities=1, shots=2, seed=0)
    person = rendered / "sample-0000"
    lq, ref = tmp_path / "real" / "LQ", tmp_path / "real" / "ref"
    lq.mkdir(parents=True)
    ref.mkdir()
    face = cv2.imread(str(person / "00.png"))
    blurred = cv2.resize(cv2.resize(face, (40, 40), interpolation=cv2.INTER_AREA), (512, 512))
    gone = np.full((512, 512, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    pictures = {
        "face": face,
        "blurred": blurred,
        "gone": gone,
        "noise": noise,
        "small": gone[:128, :128],
        "wide": gone[:300],
    }
    for name, picture in pictures.items():
        assert cv2.imwrite(str(lq / f"{name}.png"), picture)
        for suffix in ("png", "face.json", "region.png"):
            shutil.copy(person / f"01.{suffix}", ref / f"{name}.{suffix}")
    for suffix in ("face.json", "region.png"):
        shutil.copy(person / f"00.{suffix}", lq / f"face.{suffix}")
    report = ingest(store, settings, tmp_path / "real", form=Form.INPUTS, workers=1)
    rows = inputs(store)
    assert set(rows) == {"face", "blurred", "gone", "noise", "small"}
    assert rows["face"].lq_aligned
    as_they_were = {name for name, row in rows.items() if not row.lq_aligned}
    assert {"gone", "noise", "small"} <= as_they_were
    (note,) = report.notes
    assert note.startswith(f"no face was found in {len(as_they_were)} degraded pictures")
    for name in ("gone", "noise"):
        kept = read_rgb(store.images.path(rows[name].lq_sha256)).astype(int)
        assert np.abs(kept - pictures[name][..., ::-1]).mean() < 3
    assert read_rgb(store.images.path(rows["small"].lq_sha256)).shape == (512, 512, 3)
    (left,) = report.left
    assert (left.path.name, left.reason) == ("wide.png", "no_face")
    assert "512x300 is not square" in left.detail

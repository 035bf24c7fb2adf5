"""Restoring files with a tiny pipeline: batches, resuming, what is set aside, what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from models.pipeline import RefStarPipeline
from models.refsel import RefSel
from restoration.restore.faces import LocatedFace, NotUsable
from restoration.restore.jobs import Job, find_jobs
from restoration.restore.networks import FaceRestorer
from restoration.restore.outputs import Also, what_else
from restoration.restore.run import RestoreSettings, fingerprint, restore_pictures


@pytest.fixture
def pipeline(tiny_pipeline: Callable[..., RefStarPipeline]) -> RefStarPipeline:
    return tiny_pipeline(RefSel)


def find(path: Path) -> LocatedFace:
    """Stands in for the face analyser: every picture that decodes is a face."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise NotUsable("unreadable", "broken image")
    notes = ("grayscale",) if "grey" in path.name else ()
    return LocatedFace(np.asarray(image, np.uint8), lambda face: face, notes)


def person(images: Tensor) -> Tensor:
    """Stands in for ArcFace: red people and blue people."""
    red = (images[:, 0].mean() > images[:, 2].mean()).float()
    return torch.stack([red, 1 - red])[None]


def write(path: Path, red: bool = True, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 120, (64, 64, 3)).astype(np.uint8)
    image[..., 0 if red else 2] += np.uint8(100)
    cv2.imwrite(str(path), image[..., ::-1])
    return path


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    for number in range(5):
        write(tmp_path / "lq" / f"{number}.png", seed=number)
        write(tmp_path / "ref" / f"{number}.png", seed=number + 50)
    return find_jobs(tmp_path / "lq", [tmp_path / "ref"])[0]


def test_a_file_is_restored_as_the_library_call_restores_it(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    report = restore_pictures(jobs, tmp_path / "out", FaceRestorer(pipeline), find)
    assert [one.name for one in report.restored] == ["0", "1", "2", "3", "4"]
    lq, reference = (find(path).aligned for path in (jobs[0].path, jobs[0].references[0]))
    small = [cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) for one in (lq, reference)]
    wanted = pipeline(*small)
    written = cv2.imread(str(tmp_path / "out" / "0.png"), cv2.IMREAD_COLOR_RGB)
    assert np.abs(written.astype(int) - wanted.astype(int)).max() <= 1


def test_the_report_names_the_reference_why_and_the_hash_of_what_was_written(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    restore_pictures(jobs, out, FaceRestorer(pipeline), find)
    report = json.loads((out / "restore.json").read_text())
    first = report["restored"][0]
    assert first["reference"].endswith("ref/0.png")
    assert "identity was not compared" in first["why"]
    assert len(first["files"]["0.png"]) == 64
    assert report["counts"] == {"restored": 5}
    assert "weights are absent" in report["settings"]["identity"]


def test_what_was_restored_before_is_kept_and_a_changed_file_is_restored_again(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    out, restorer = tmp_path / "out", FaceRestorer(pipeline)
    calls = 0

    def counting(path: Path) -> LocatedFace:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return find(path)

    settings = RestoreSettings(batch=2)
    with pytest.raises(KeyboardInterrupt):
        restore_pictures(jobs, out, restorer, counting, settings)
    assert len(list(out.glob("*.png"))) == 2
    with (out / "restored.jsonl").open("a") as journal:
        journal.write('{"name": "torn')
    report = restore_pictures(jobs, out, restorer, find, settings)
    assert (report.known, len(report.restored)) == (2, 5)
    write(jobs[1].path, seed=77)
    again = restore_pictures(jobs, out, restorer, find, settings)
    assert (again.known, len(again.restored)) == (4, 5)


def test_bad_input_is_set_aside_by_name_and_the_rest_goes_on(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    jobs[1].path.write_bytes(b"broken")
    jobs[2].references[0].write_bytes(b"broken")
    report = restore_pictures(jobs, tmp_path / "out", FaceRestorer(pipeline), find)
    assert [one.name for one in report.restored] == ["0", "3", "4"]
    left = {(str(one.path.relative_to(tmp_path)), one.reason) for one in report.left}
    assert left == {
        ("lq/1.png", "unreadable"),
        ("ref/2.png", "unreadable"),
        ("lq/2.png", "no_reference"),
    }


def test_a_reference_of_another_person_is_passed_over_noted_or_refused(
    pipeline: RefStarPipeline, tmp_path: Path
) -> None:
    lq = write(tmp_path / "lq.png", red=True)
    other = write(tmp_path / "other.png", red=False, seed=1)
    own = write(tmp_path / "own.png", red=True, seed=2)
    restorer = FaceRestorer(pipeline, person)
    (one,) = restore_pictures(
        [Job("lq", lq, (other, own))], tmp_path / "a", restorer, find
    ).restored
    assert one.reference.endswith("own.png")
    assert "1 passed over" in one.why
    wrong = [Job("lq", lq, (other,))]
    (one,) = restore_pictures(wrong, tmp_path / "b", restorer, find).restored
    assert one.notes == ["perhaps another person"]
    assert one.similarity == 0
    strict = RestoreSettings(strict=True)
    report = restore_pictures(wrong, tmp_path / "c", restorer, find, strict)
    assert not report.restored
    assert [gone.reason for gone in report.left] == ["another_person"]


def test_odd_files_are_noted_and_refused_when_strict(
    pipeline: RefStarPipeline, tmp_path: Path
) -> None:
    jobs = [Job("grey", write(tmp_path / "grey.png"), (write(tmp_path / "ref.png", seed=1),))]
    (one,) = restore_pictures(jobs, tmp_path / "a", FaceRestorer(pipeline), find).restored
    assert one.notes == ["grayscale"]
    strict = RestoreSettings(strict=True)
    report = restore_pictures(jobs, tmp_path / "b", FaceRestorer(pipeline, person), find, strict)
    assert [(gone.reason, gone.detail) for gone in report.left] == [("odd", "grayscale")]


def test_strictness_without_arcface_is_refused_since_nobody_can_be_told_apart(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"put arcface\.onnx into HOME/weights"):
        restore_pictures(
            jobs, tmp_path / "out", FaceRestorer(pipeline), find, RestoreSettings(strict=True)
        )
    assert not (tmp_path / "out").exists()


def test_what_else_is_to_be_written_is_known_by_name() -> None:
    assert what_else(["mask", "face", "mask"]) == {Also.MASK, Also.FACE}
    with pytest.raises(ValueError, match="'masks' is nothing to write too; give mask, reference"):
        what_else(["masks"])


def test_masks_references_comparisons_and_faces_are_written_when_asked_for(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    settings = RestoreSettings(also=frozenset(Also))
    report = restore_pictures(jobs[:1], out, FaceRestorer(pipeline), find, settings)
    mask = cv2.imread(str(out / "mask" / "0.png"), cv2.IMREAD_GRAYSCALE)
    under = cv2.imread(str(out / "reference" / "0.png"), cv2.IMREAD_COLOR_RGB)
    reference = find(jobs[0].references[0]).aligned
    assert set(np.unique(mask)) <= {0, 255}
    assert np.array_equal(under, reference * (mask > 0)[..., None])
    compared = cv2.imread(str(out / "comparison" / "0.png"))
    assert compared.shape == (64, 3 * 64 + 2 * 6, 3)
    assert len(report.restored[0].files) == 5


def test_a_pipeline_without_refsel_is_refused_with_the_mend(pipeline: RefStarPipeline) -> None:
    pipeline.refsel = None
    with pytest.raises(ValueError, match="train it to Phase II"):
        FaceRestorer(pipeline)


def test_a_pipeline_that_changed_has_another_fingerprint(
    pipeline: RefStarPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    before = fingerprint(tmp_path / "saved")
    assert before == fingerprint(tmp_path / "saved")
    with (tmp_path / "saved" / "pipeline.json").open("a") as file:
        file.write(" ")
    assert fingerprint(tmp_path / "saved") != before


def test_progress_counts_pictures(
    pipeline: RefStarPipeline, jobs: list[Job], tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []

    def advance(done: int, total: int | None) -> None:
        seen.append((done, total))

    restore_pictures(jobs, tmp_path / "out", FaceRestorer(pipeline), find, progress=advance)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

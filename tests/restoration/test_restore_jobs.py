"""Which references belong to which pictures, and which of several is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from restoration.restore.choice import Candidate, choose
from restoration.restore.jobs import find_jobs


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_one_picture_may_have_several_references_or_a_folder_of_them(tmp_path: Path) -> None:
    touch(tmp_path, "lq.png", "a.jpg", "b.jpg", "ref/c.jpg", "ref/d.webp", "ref/note.txt")
    lq = tmp_path / "lq.png"
    (job,), left = find_jobs(lq, [tmp_path / "a.jpg", tmp_path / "b.jpg"])
    assert [path.name for path in job.references] == ["a.jpg", "b.jpg"]
    (job,), left = find_jobs(lq, [tmp_path / "ref"])
    assert [path.name for path in job.references] == ["c.jpg", "d.webp"]
    assert not left


def test_folders_are_matched_by_name_and_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    lq = touch(tmp_path / "lq", "anna.jpg", "bela.png", "carl.jpg")
    ref = touch(tmp_path / "ref", "anna.png", "bela/1.jpg", "bela/2.jpg", "dora.jpg")
    jobs, left = find_jobs(lq, [ref])
    assert {job.name: len(job.references) for job in jobs} == {"anna": 1, "bela": 2}
    assert {(one.path.name, one.reason) for one in left} == {
        ("carl.jpg", "no_reference"),
        ("dora.jpg", "no_input"),
    }


def test_files_serve_every_picture_of_a_folder(tmp_path: Path) -> None:
    lq = touch(tmp_path / "lq", "1.jpg", "2.jpg")
    touch(tmp_path, "anna.jpg")
    jobs, _ = find_jobs(lq, [tmp_path / "anna.jpg"])
    assert [job.references for job in jobs] == [(tmp_path / "anna.jpg",)] * 2


def test_two_pictures_that_would_be_written_to_one_file_are_not_both_taken(tmp_path: Path) -> None:
    lq = touch(tmp_path / "lq", "1.jpg", "1.png")
    touch(tmp_path, "anna.jpg")
    jobs, left = find_jobs(lq, [tmp_path / "anna.jpg"])
    assert [job.path.name for job in jobs] == ["1.jpg"]
    assert [(one.path.name, one.reason) for one in left] == [("1.png", "same_name")]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        find_jobs(tmp_path / "nowhere", [tmp_path])
    with pytest.raises(FileNotFoundError, match="has no pictures"):
        find_jobs(tmp_path, [tmp_path])


def candidate(name: str, area: float, similarity: float | None) -> Candidate:
    return Candidate(Path(name), area, similarity)


def test_the_largest_area_wins_among_those_of_the_same_person() -> None:
    chosen = choose(
        [candidate("a", 0.3, 0.5), candidate("b", 0.4, 0.4), candidate("c", 0.9, 0.0)], 0.2
    )
    assert chosen.number == 1
    assert chosen.agrees
    assert "the most of 2 references" in chosen.why
    assert "1 passed over as perhaps another person" in chosen.why


def test_where_all_look_like_somebody_else_it_is_said() -> None:
    chosen = choose([candidate("a", 0.3, 0.1), candidate("b", 0.4, -0.1)], 0.2)
    assert chosen.number == 1
    assert not chosen.agrees
    assert "similarity -0.10, under 0.20: perhaps another person" in chosen.why


def test_without_arcface_the_area_decides_and_that_is_said() -> None:
    chosen = choose([candidate("a", 0.3, None), candidate("b", 0.1, None)], 0.2)
    assert chosen.number == 0
    assert "identity was not compared" in chosen.why

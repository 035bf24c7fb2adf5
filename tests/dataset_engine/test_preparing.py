"""A file that kills the process that reads it is set aside like any other bad file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_files import Found
from dataset_engine.preparing import IN_PROCESS, prepare_file, prepared


@dataclass(frozen=True)
class Deadly(Found):
    """Whatever process is given this one ends at once."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (9,))


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    files = []
    for number in range(IN_PROCESS + 2):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"no picture")
        files.append((Deadly if number == 1 else Found)("a", path, path.name))
    results = list(prepared(files, PrepareSettings(), 2))
    assert [result.reason for result in results if result.path != files[1].path] == [  # type: ignore[union-attr]
        "unreadable"
    ] * (IN_PROCESS + 1)
    assert results[1].reason == "crashed"  # type: ignore[union-attr]


def test_too_little_memory_for_a_file_sets_it_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "x.jpg"
    path.write_bytes(b"no picture")
    monkeypatch.setattr("dataset_engine.preparing.prepare_image", greedy)
    left = prepare_file(Found("a", path, "x.jpg"), PrepareSettings())
    assert left.reason == "too_large"  # type: ignore[union-attr]

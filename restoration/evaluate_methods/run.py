"""`engine evaluate`: result folders in; Table 1 as Markdown, CSV, JSON and a page out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_engine.shards.files import write_whole
from restoration.evaluate_methods.closer_look import CloserLook, Look
from restoration.evaluate_methods.page import Report, write_page
from restoration.evaluate_methods.result_folders import (
    SUFFIXES,
    Image,
    Problems,
    find_entries,
    load_entries,
    read_rgb,
)
from restoration.evaluate_methods.table_one import (
    Column,
    TableRow,
    TestSet,
    as_csv,
    as_json,
    as_markdown,
    build_table,
)
from restoration.json_report import write_json
from restoration.metric_tools import Tools
from restoration.metrics import Face, Scores, measure

PAGE_NAME = "index.html"


@dataclass(frozen=True)
class SetResults:
    """A test set (see `find_entries`), and each method's folder of restored images."""

    test_set: Path
    methods: Mapping[str, Path]
    real: Path | None = None
    """Images that FID compares with; None for the ground truths."""


@dataclass(frozen=True)
class EvaluationSettings:
    """`looks` faces of each set are shown; `seed` is of the bootstrap; `workers` decode images."""

    looks: int = 12
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave."""

    rows: tuple[TableRow, ...]
    columns: tuple[Column, ...]
    measured: Mapping[TestSet, Mapping[str, Scores]]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    """Why cells are empty, and which means are over fewer faces than others'."""
    page: Path


def evaluate_methods(
    given: Mapping[TestSet, SetResults],
    out: Path,
    tools: Tools,
    settings: EvaluationSettings,
    *,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Evaluation:
    """Measure every method on every test set and write the report.

    Files that are missing, broken or of another size are named in the report; the rest goes on.
    Without results nothing is measured, and the table holds the paper's figures alone.

    Args:
        given: by test set.
        out: folder for ``index.html``, ``table.md``, ``table.csv``, ``faces.csv`` and
            ``evaluation.json``; made if need be.
        tools: networks of the metrics.
        settings: see `EvaluationSettings`.
        progress: told how many faces are done, and of how many.

    Raises:
        ValueError: a test set or a method's folder is missing or empty, or no face can be measured.
    """
    problems = Problems()
    measured: dict[TestSet, Mapping[str, Scores]] = {}
    looks: dict[TestSet, Sequence[Look]] = {}
    entries = {
        test_set: find_entries(one.test_set, one.methods, problems)
        for test_set, one in given.items()
    }
    total, before = sum(map(len, entries.values())), 0
    for test_set, one in given.items():
        closer = CloserLook(settings.looks)

        def faces(test_set: TestSet = test_set, closer: CloserLook = closer) -> Iterator[Face]:
            loaded_faces = load_entries(entries[test_set], problems, workers=settings.workers)
            for loaded in loaded_faces:
                closer.consider(loaded)
                yield loaded.face

        def tell(done: int, _total: int | None, before: int = before) -> None:
            progress(before + done, total)

        real = None if one.real is None else _images(one.real, problems)
        measured[test_set] = measure(faces(), tools, real=real, progress=tell)
        if not measured[test_set]:
            raise ValueError(
                f"no face of {one.test_set} could be measured: {'; '.join(problems.found[:3])}"
            )
        looks[test_set] = closer.looks()
        before += len(entries[test_set])
    rows, columns = build_table(measured, settings.seed)
    notes = _notes(measured, problems)
    evaluation = Evaluation(rows, columns, measured, tuple(problems.found), notes, out / PAGE_NAME)
    _write(out, evaluation, looks, given)
    return evaluation


def _images(folder: Path, problems: Problems) -> Iterator[Image]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            image = read_rgb(path, problems)
            if image is not None:
                yield image


def _write(
    out: Path,
    evaluation: Evaluation,
    looks: Mapping[TestSet, Sequence[Look]],
    given: Mapping[TestSet, SetResults],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows, columns = evaluation.rows, evaluation.columns
    write_whole(out / "table.md", as_markdown(rows, columns, evaluation.notes).encode())
    write_whole(out / "table.csv", as_csv(rows).encode())
    write_whole(out / "faces.csv", _faces_csv(evaluation.measured).encode())
    definitions = {
        str(metric): {name: str(value) for name, value in vars(cell.definition).items()}
        for scores in evaluation.measured.values()
        for one in scores.values()
        for metric, cell in one.cells.items()
    }
    values = {
        "cells": as_json(rows),
        "definitions": definitions,
        "problems": list(evaluation.problems),
    }
    write_json(out / "evaluation.json", values)
    sets = [f"{one}: {where.test_set.name}" for one, where in given.items()]
    about = "; ".join(sets) or "Nothing was measured: the paper's figures alone."
    report = Report(
        rows, columns, evaluation.measured, looks, evaluation.problems, evaluation.notes, about
    )
    write_page(evaluation.page, report)


def _notes(measured: Mapping[TestSet, Mapping[str, Scores]], problems: Problems) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    for test_set, scores in measured.items():
        counts = {name: max(c.faces for c in one.cells.values()) for name, one in scores.items()}
        for method, one in scores.items():
            for metric, cell in one.cells.items():
                if cell.missing:
                    notes[f"{test_set}, {metric}: {cell.missing}"] = None
            if counts[method] < max(counts.values()):
                most = max(counts.values())
                notes[f"{test_set}: {method} was measured on {counts[method]} of {most} faces"] = (
                    None
                )
    if problems.found:
        notes[f"files left out or missing: {len(problems.found)}; the report names them"] = None
    return tuple(notes)


def _faces_csv(measured: Mapping[TestSet, Mapping[str, Scores]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["test set", "method", "face", "metric", "value"])
    for test_set, scores in measured.items():
        for method, one in scores.items():
            for metric, cell in one.cells.items():
                for face, value in cell.per_face.items():
                    writer.writerow([test_set, method, face, metric, value])
    return out.getvalue()

"""The report as one HTML file: tables, pictures and scatter; nothing outside of it is needed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from dataset_engine.shards.files import write_whole
from restoration.evaluate_methods.closer_look import Look
from restoration.evaluate_methods.quoted import paper
from restoration.evaluate_methods.table_one import Column, TableRow, TestSet, heading
from restoration.metrics import Metric, Scores

SIDE = 192
"""Of a picture, px."""


@dataclass(frozen=True)
class Picture:
    """One image of a face, whole and enlarged, as data URIs."""

    title: str
    whole: str
    zoom: str


@dataclass(frozen=True)
class Shown:
    """One face of the closer look."""

    name: str
    test_set: TestSet
    pictures: tuple[Picture, ...]
    frame: tuple[float, float, float]
    """Left, top and side of the enlarged square, in percent of the image."""
    values: Mapping[str, Mapping[str, str]]
    """By method and metric."""


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    rows: Sequence[TableRow]
    columns: Sequence[Column]
    measured: Mapping[TestSet, Mapping[str, Scores]]
    looks: Mapping[TestSet, Sequence[Look]]
    problems: Sequence[str]
    notes: Sequence[str]
    about: str


def write_page(path: Path, report: Report) -> None:
    """Write the page, whole."""
    template = files("restoration.evaluate_methods").joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    shown = [
        _shown(look, test_set, report.measured[test_set])
        for test_set, looks in report.looks.items()
        for look in looks
    ]
    used = _used(report.measured)
    text = environment.from_string(template).render(
        report=report,
        shown=shown,
        source=" ".join(paper().source.split()),
        heading=heading,
        sets=[(one, sum(column[0] is one for column in report.columns)) for one in TestSet],
        ordered=sorted(report.columns, key=lambda column: list(TestSet).index(column[0])),
        definitions=[cell.definition for cell in used.values()],
        data=embedded(scatter_data(report.measured)),
    )
    write_whole(path, text.encode())


def scatter_data(measured: Mapping[TestSet, Mapping[str, Scores]]) -> dict[str, Any]:
    """Every face's value: by test set, metric and method, in the order of the set's faces."""
    data: dict[str, Any] = {}
    for test_set, scores in measured.items():
        names: dict[str, None] = {}
        for one in scores.values():
            for cell in one.cells.values():
                names |= dict.fromkeys(cell.per_face)
        metrics: dict[str, dict[str, list[float | None]]] = {}
        for metric in Metric:
            found = {
                method: [_rounded(one.cells[metric].per_face.get(name)) for name in names]
                for method, one in scores.items()
                if one.cells[metric].per_face
            }
            if found:
                metrics[str(metric)] = found
        data[str(test_set)] = {"faces": list(names), "metrics": metrics}
    return data


def embedded(values: object) -> str:
    """JSON that may stand in a script element, whatever names are in it."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(image: NDArray[np.uint8], side: int = SIDE) -> str:
    """A JPEG of uint8 RGB [H, W, 3] at `side` px in a URI."""
    grows = image.shape[0] < side
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    sized = cv2.resize(image, (side, side), interpolation=how)
    encoded = cv2.imencode(".jpg", sized[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _shown(look: Look, test_set: TestSet, scores: Mapping[str, Scores]) -> Shown:
    face = look.loaded.face
    images = {"reference": face.reference} | dict(face.restored) | {"ground truth": face.truth}
    pictures = tuple(
        Picture(title, data_uri(image), data_uri(_zoomed(image, look)))
        for title, image in images.items()
        if image is not None
    )
    values = {
        method: {
            str(metric): f"{cell.per_face[face.name]:.{3 if metric is Metric.LPIPS else 2}f}"
            for metric in (Metric.PSNR, Metric.LPIPS, Metric.ID_GT, Metric.ID_REF)
            if face.name in (cell := one.cells[metric]).per_face
        }
        for method, one in scores.items()
    }
    side = next(iter(face.restored.values())).shape[1]
    frame = (look.left / side * 100, look.top / side * 100, look.side / side * 100)
    return Shown(face.name, test_set, pictures, frame, values)


def _zoomed(image: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    return image[look.top : look.top + look.side, look.left : look.left + look.side]


def _used(measured: Mapping[TestSet, Mapping[str, Scores]]) -> dict[Metric, Any]:
    """One cell of each metric, for how it is made; one that has a value before one that has none."""
    used: dict[Metric, Any] = {}
    for scores in measured.values():
        for one in scores.values():
            for metric, cell in one.cells.items():
                if metric not in used or (used[metric].missing and not cell.missing):
                    used[metric] = cell
    return used


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""The page of a test: tables, curves, and the pairs that RefSel got most wrong, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from dataset_engine.shards.files import write_whole
from restoration.evaluate_refsel.curves import draw_curves
from restoration.evaluate_refsel.measures import Measured
from restoration.evaluate_refsel.summary import PAPER_ACCURACY, Summary
from restoration.refsel_data import Example
from restoration.refsel_evaluation import percent

PICTURE_SIDE = 224
MISSED, INVENTED, FOUND = (235, 70, 60), (245, 180, 40), (25, 195, 125)
"""Conflict kept, consistent dropped, conflict dropped."""


@dataclass(frozen=True)
class Shown:
    """A pair of the worst list: what was measured, and its strip of pictures, uint8 RGB."""

    measured: Measured
    picture: NDArray[np.uint8]


def picture_of(example: Example, p: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Ground truth, input, reference, M, RefSel's mask and its errors side by side, uint8 RGB."""
    pair = example.pair
    kept = (p > threshold) & pair.region
    errors = np.repeat(
        cv2.cvtColor(pair.reference, cv2.COLOR_RGB2GRAY)[..., None] // 2 + 40, 3, axis=2
    )
    for where, colour in (
        (pair.region & ~pair.mask & ~kept, FOUND),
        (pair.region & ~pair.mask & kept, MISSED),
        (pair.mask & ~kept, INVENTED),
    ):
        errors[where] = (errors[where] * 0.35 + np.array(colour) * 0.65).astype(np.uint8)
    shown = (
        example.gt,
        pair.first,
        pair.reference,
        _under(pair.reference, pair.mask),
        _under(pair.reference, kept),
        errors,
    )
    size = (PICTURE_SIDE, PICTURE_SIDE)
    return np.hstack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in shown])


def write_page(folder: Path, summary: Summary, worst: Sequence[Shown], about: str) -> Path:
    """Write ``index.html``, ``curves.png`` and the pictures into `folder`; gives the page's path.

    Args:
        folder: exists; the page is replaced last, so that it never shows pictures of another run.
        summary: the tables.
        worst: the worst pairs, worst first.
        about: one sentence naming the model and the data.
    """
    pictures = folder / "worst"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.jpg"):
        old.unlink()
    for number, shown in enumerate(worst):
        _write_jpeg(pictures / f"{number:02d}.jpg", shown.picture)
    draw_curves(summary, folder / "curves.png")
    template = files("restoration.evaluate_refsel").joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True)
    environment.filters["percent"] = percent
    text = environment.from_string(template).render(
        summary=summary, worst=worst, about=about, paper=PAPER_ACCURACY
    )
    page = folder / "index.html"
    write_whole(page, text.encode())
    return page


def _under(reference: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], reference, reference // 6).astype(np.uint8)


def _write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    path.write_bytes(encoded.tobytes())

"""The page about one pair: pictures, and maps that answer to a click; one file, no outside scripts."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from dataset_engine.shards.files import write_whole
from restoration.explain.attention import AttentionMap

Image = NDArray[np.uint8]
FAINTEST: Final = 1e-3
"""A row is drawn relative to its largest weight, or to this where nothing near was to be looked at."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One restored pair: images uint8 RGB [S, S, 3], mask bool [S, S]."""

    degraded: Image
    reference: Image
    mask: NDArray[np.bool_]
    alone: Image
    """Restored without the reference."""
    restored: Image
    truth: Image | None
    maps: tuple[AttentionMap, ...]
    """The finest grid first."""
    chosen_by: str
    """Who chose the mask."""
    names: str
    """Which pair this is."""


def write_page(path: Path, explained: Explained) -> None:
    """Write the page, whole."""
    change = explained.restored.astype(np.int16) - explained.alone
    pictures = {
        "input": explained.degraded,
        "reference": explained.reference,
        "mask": np.repeat(explained.mask[..., None] * np.uint8(255), 3, axis=2),
        "alone": explained.alone,
        "restored": explained.restored,
        "change": np.clip(128 + 3 * change, 0, 255).astype(np.uint8),
    }
    if explained.truth is not None:
        pictures["truth"] = explained.truth
    template = files("restoration.explain").joinpath("page.html").read_text("utf-8")
    text = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            pictures={name: png_uri(image) for name, image in pictures.items()},
            kept=float(explained.mask.mean()),
            moved=float(np.abs(change).mean()),
            chosen_by=explained.chosen_by,
            names=explained.names,
            size=len(explained.mask),
            maps=json.dumps([packed(one) for one in explained.maps]),
        )
    )
    write_whole(path, text.encode())


def packed(one: AttentionMap) -> dict[str, object]:
    """A map for the page: bytes in base64, each row over its own largest weight."""
    peaks = one.weights.max(axis=1, keepdims=True)
    rows = np.rint(255 * one.weights / np.maximum(peaks, FAINTEST)).astype(np.uint8)
    return {
        "side": one.side,
        "layers": one.layers,
        "weights": base64.b64encode(rows.tobytes()).decode(),
        "peaks": [round(float(peak), 5) for peak in peaks[:, 0]],
        "share": [round(float(share), 4) for share in one.share],
    }


def png_uri(image: Image) -> str:
    """A PNG of uint8 RGB [S, S, 3] in a URI."""
    encoded = cv2.imencode(".png", image[..., ::-1])[1]
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()

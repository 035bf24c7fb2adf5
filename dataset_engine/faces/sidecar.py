"""What a source of images brings along: five points, landmarks and a face region beside a file.

For NAME.png (or .jpg): NAME.face.json, `{"five_points": [[x, y], ...], "landmarks": ...}`, where
landmarks may be absent or null and are else 478 points, and NAME.region.png, the face region in
black and white at the image's size. Each may be absent. Points are px on the upright image.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.decode import DecodeLimits, UnreadableImage, read_image

POINTS_SUFFIX: Final = ".face.json"
REGION_SUFFIX: Final = ".region.png"

_MAX_JSON_BYTES: Final = 1024 * 1024


class BadSidecar(Exception):  # noqa: N818 - it names a finding
    """A sidecar that cannot be used; the message names the file and the cause."""


@dataclass(frozen=True, eq=False)
class Sidecar:
    """What was found beside an image; a field is None where nothing was."""

    five_points: NDArray[np.float32] | None = None
    """float32 [5, 2], (x, y) px on the image."""
    landmarks: NDArray[np.float32] | None = None
    """float32 [478, 2], (x, y) px on the image."""
    region: NDArray[np.bool_] | None = None
    """bool [H, W], the face region at the image's size."""


def is_sidecar(path: Path) -> bool:
    """Whether a file belongs to an image beside it and is not an image of its own."""
    return path.name.lower().endswith((POINTS_SUFFIX, REGION_SUFFIX))


def read_sidecar(image_path: Path, width: int, height: int) -> Sidecar:
    """Reads what lies beside an image of this size.

    Raises:
        BadSidecar: a sidecar is there and is not as it should be.
    """
    points_path = image_path.with_name(image_path.stem + POINTS_SUFFIX)
    region_path = image_path.with_name(image_path.stem + REGION_SUFFIX)
    five_points = landmarks = region = None
    if _exists(points_path):
        document = _read_json(points_path)
        five_points = _points(document.get("five_points"), 5, points_path, "five_points")
        _check_five(five_points, width, height, points_path)
        if document.get("landmarks") is not None:
            landmarks = _points(document["landmarks"], 478, points_path, "landmarks")
    if _exists(region_path):
        region = _read_region(region_path, width, height)
    return Sidecar(five_points, landmarks, region)


def _exists(path: Path) -> bool:
    if path.is_symlink():  # a link could lead anywhere, and no source needs one
        raise BadSidecar(f"{path.name}: is a symbolic link; put the file itself there")
    return path.exists()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
            raise BadSidecar(f"{path.name}: not a file of at most {_MAX_JSON_BYTES:,} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadSidecar(f"{path.name}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadSidecar(f"{path.name}: not a JSON object with five_points")
    return document


def _points(value: object, count: int, path: Path, name: str) -> NDArray[np.float32]:
    cause = f"{path.name}: {name} must be {count} pairs of numbers [x, y]"
    if not isinstance(value, list) or len(value) != count:
        raise BadSidecar(cause)
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
            raise BadSidecar(cause)
    return np.array(value, dtype=np.float32)


def _is_number(value: object) -> bool:
    """Whether it is a number of px that a picture can have (bool is an int, and is not)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) < 1e6


def _check_five(points: NDArray[np.float32], width: int, height: int, path: Path) -> None:
    margin = 0.25 * max(width, height)  # a face may reach over the edge of its picture
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -margin).any() or high[0] > width + margin or high[1] > height + margin:
        raise BadSidecar(f"{path.name}: five_points lie outside the {width}x{height} image")
    if points[0, 0] >= points[1, 0] or np.linalg.norm(points[1] - points[0]) < 1:
        raise BadSidecar(f"{path.name}: the first of five_points must be the eye on the left")


def _read_region(path: Path, width: int, height: int) -> NDArray[np.bool_]:
    try:
        pixels = read_image(path, DecodeLimits(max_pixels=max(1, width * height)))
    except UnreadableImage as error:
        raise BadSidecar(f"{path.name}: {error.reason}") from error
    if pixels.shape[:2] != (height, width):
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise BadSidecar(f"{path.name}: {size}, and the image is {width}x{height}")
    region = np.asarray(pixels[..., 0] > 127, dtype=np.bool_)
    if not region.any():
        raise BadSidecar(f"{path.name}: the face region is empty")
    return region

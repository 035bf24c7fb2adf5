"""A pair's two images and face region, read from files or any fsspec location, and decoded safely."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.inference import resized

SIDE = 512
MAX_BYTES = 32 * 1024 * 1024
"""Far more than 512x512 pixels can take, in any format."""
ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")
"""How a whole JPEG and a whole PNG end."""
JPEG = b"\xff\xd8"
COLOUR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
HALF = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class PairFiles:
    """Where a pair's images and the reference's face region lie; `key` is the caller's own.

    A location is a path, or a URL that fsspec knows (``s3://bucket/image.jpg``).
    """

    key: str
    gt: Path | str
    reference: Path | str
    region: Path | str


@dataclass(frozen=True)
class PairImages:
    """A pair as the network takes it.

    Attributes:
        key: the caller's.
        gt: uint8[side, side, 3] RGB.
        reference: uint8[side, side, 3] RGB.
        region: the reference's face region, bool[512, 512].
    """

    key: str
    gt: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    region: NDArray[np.bool_]


@dataclass(frozen=True)
class BrokenPair:
    """A pair that cannot be read; `reason` names the file, the cause and the mend."""

    key: str
    reason: str


def read_pair(files: PairFiles, side: int) -> PairImages | BrokenPair:
    """Read and decode a pair, its images brought to `side`; whatever is wrong comes back as a reason."""
    try:
        return PairImages(
            files.key,
            _photograph(files.gt, side),
            _photograph(files.reference, side),
            _decoded(files.region, _sound(files.region), cv2.IMREAD_GRAYSCALE) > 127,
        )
    except (
        Exception
    ) as error:  # decoders and remote stores raise anything, and no pair stops others
        return BrokenPair(files.key, str(error) or type(error).__name__)


def _photograph(location: Path | str, side: int) -> NDArray[np.uint8]:
    """An image at `side` x `side`.

    A JPEG gives half its size for little more than half of the work: its blocks are averaged before
    they become pixels, a quarter of a grey level from what averaging the pixels gives.
    """
    data = _sound(location)
    if 2 * side == SIDE and data.startswith(JPEG):
        return np.asarray(cv2.cvtColor(_decoded(location, data, HALF), cv2.COLOR_BGR2RGB), np.uint8)
    return resized(_decoded(location, data, COLOUR), side)


def _sound(location: Path | str) -> bytes:
    data = read_location(location)
    _check(location, data)
    return data


def _decoded(location: Path | str, data: bytes, flags: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(f"{location} is no image that can be decoded; make it again")
    return np.asarray(image, np.uint8)


def read_location(location: Path | str) -> bytes:
    """All bytes at a path or URL.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any aligned image.
    """
    if isinstance(location, Path):
        # asked for at once, the most that there may be would be allocated for each file
        whole = location.stat().st_size <= MAX_BYTES
        data = location.read_bytes() if whole else b""
    else:
        with fsspec.open(location, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        whole = len(data) <= MAX_BYTES
    if not whole:
        raise ValueError(f"{location} has over {MAX_BYTES:,} bytes and is no aligned image")
    return data


def _check(location: Path | str, data: bytes) -> None:
    # the header first: an image bomb states its size there, and decoding would take the memory
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as header:
            width, height = header.size
            if (width, height) != (SIDE, SIDE):
                raise ValueError(
                    f"{location} is {width}x{height} and not {SIDE}x{SIDE}; align it, or ingest it"
                )
            if not data.endswith(ENDS):
                header.load()  # OpenCV fills what is missing with grey; Pillow says that it is
    except Image.DecompressionBombError as error:
        raise ValueError(f"{location}: {error}; align it, or ingest it") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{location} is no image that can be decoded ({error}); make it again"
        ) from None

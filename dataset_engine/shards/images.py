"""Checks and decoding of a triplet's image bytes; headers are read before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.triplet import SIDE

Bytes = bytes | memoryview
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# EXIF orientation is not applied: a triplet's pixels are already aligned, and its masks know none.
_COLOUR: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def jpeg_size(data: Bytes) -> tuple[int, int]:
    """Width and height in px from a JPEG's frame header; no pixel is decoded.

    Raises:
        ValueError: if it is no JPEG, or its frame header is missing.
    """
    if bytes(data[:2]) != b"\xff\xd8":
        raise ValueError("not a JPEG")
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise ValueError("a JPEG without a frame header")


def png_size(data: Bytes) -> tuple[int, int]:
    """Width and height in px from a PNG's header; no pixel is decoded.

    Raises:
        ValueError: if it is no PNG.
    """
    if len(data) < 33 or bytes(data[:8]) != _PNG or bytes(data[12:16]) != b"IHDR":
        raise ValueError("not a PNG")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def check_jpeg(data: Bytes) -> None:
    """Check that a JPEG is 512x512 and not cut off.

    Raises:
        ValueError: naming what is wrong.
    """
    _check_size(jpeg_size(data))
    # OpenCV fills the missing rows of a truncated JPEG with gray and says nothing.
    if bytes(data[-2:]) != b"\xff\xd9":
        raise ValueError("a truncated JPEG: it has no end marker")


def check_png(data: Bytes) -> None:
    """Check that a PNG is 512x512 and that every chunk is whole.

    Raises:
        ValueError: naming what is wrong.
    """
    _check_size(png_size(data))
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError("a damaged PNG: a chunk's checksum is wrong")
        if bytes(data[at + 4 : at + 8]) == b"IEND":
            return
        at = end + 4
    raise ValueError("a truncated PNG: it has no end chunk")


def decode_rgb(data: Bytes) -> Image:
    """Decode a JPEG to uint8 RGB [512, 512, 3].

    Raises:
        ValueError: if it is no whole 512x512 JPEG.
    """
    check_jpeg(data)
    return np.asarray(_decode(data, _COLOUR), np.uint8)


def decode_mask(data: Bytes) -> Mask:
    """Decode a PNG to bool [512, 512]; gray above 127 is True.

    Raises:
        ValueError: if it is no whole 512x512 PNG.
    """
    check_png(data)
    return np.asarray(_decode(data, cv2.IMREAD_GRAYSCALE) > 127, np.bool_)


def _decode(data: Bytes, flags: int) -> Image:
    try:
        image: Image | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"it does not decode: {error.err}") from error
    if image is None:
        raise ValueError("it does not decode")
    return image


def _check_size(size: tuple[int, int]) -> None:
    if size != (SIDE, SIDE):
        raise ValueError(f"{size[0]}x{size[1]} px, not {SIDE}x{SIDE}")

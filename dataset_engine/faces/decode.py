"""One image file in, one upright RGB array out, whatever the file is or claims to be.

A file is judged before it is decoded: kind and size on disk, then the size that its header states.
"""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Pillow's names of the formats that are read."""

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""File name endings, in lower case, that an image may have."""


class UnreadableImage(Exception):  # noqa: N818 - it names a finding
    """A file that is not a whole image of a known format; `reason` says why, without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ImageTooLarge(UnreadableImage):
    """A file over the limits, refused before its pixels were decoded."""


@dataclass(frozen=True)
class DecodeLimits:
    """What a file may be before it is decoded."""

    max_bytes: int = 128 * 1024 * 1024
    """Largest file, in bytes."""
    max_pixels: int = 100_000_000
    """Largest width x height that a header may state; 100 MP takes about 400 MB while decoding."""
    max_side: int = 30_000
    """Longest side, px; OpenCV resamples nothing longer than 32,767."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.max_side) <= 0:
            raise ValueError("decode limits must be positive")


def read_image(path: Path, limits: DecodeLimits | None = None) -> NDArray[np.uint8]:
    """Reads one image file.

    The EXIF orientation is applied, a colour profile is converted to sRGB, transparency is laid on
    white, grey, 16-bit and CMYK become 8-bit RGB, and of several frames the first is taken.

    Args:
        path: a JPEG, PNG, WebP, BMP or TIFF file.
        limits: size limits; None for the defaults.

    Returns:
        uint8 RGB [H, W, 3], contiguous and writable.

    Raises:
        ImageTooLarge: the file or the image that its header states is over the limits.
        UnreadableImage: no such file, not a regular file, unknown format, broken or truncated.
    """
    limits = limits or DecodeLimits()
    payload = _read_bytes(path, limits)
    Image.init()  # without it Pillow knows only some of the formats until one of them fails
    # Pillow warns (of sizes, of odd EXIF or palettes) where this module either refuses or copes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(payload), formats=FORMATS) as image:
                _check_size(image, limits)
                image.load()
                return _to_rgb(image)
        except UnreadableImage:
            raise
        except UnidentifiedImageError:
            raise UnreadableImage("not a JPEG, PNG, WebP, BMP or TIFF image") from None
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(str(error)) from error
        except Exception as error:  # decoders raise anything on broken data: struct, zlib, Index...
            raise UnreadableImage(f"broken image: {error or type(error).__name__}") from error


def _read_bytes(path: Path, limits: DecodeLimits) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device could block for ever
            raise UnreadableImage("not a regular file")
        if status.st_size == 0:
            raise UnreadableImage("empty file")
        if status.st_size > limits.max_bytes:
            raise ImageTooLarge(
                f"{status.st_size:,} bytes, over the limit of {limits.max_bytes:,} bytes"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def _check_size(image: Image.Image, limits: DecodeLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{width}x{height} pixels, over the limit of {limits.max_pixels:,} pixels"
        )
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(f"{width}x{height} pixels, a side over {limits.max_side:,} px")


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = Image.fromarray(_eight_bits(np.asarray(upright)))
    upright = _over_white(upright)
    if profile:
        upright = _to_srgb(upright, profile)
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits [H, W] to uint8; floats up to 1 count as a fraction."""
    levels = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    peak = levels.max(initial=0.0)
    if values.dtype.kind == "f":
        full = 1.0 if peak <= 1.0 else 255.0
    else:
        full = 65535.0 if values.dtype.itemsize == 2 or 255 < peak <= 65535 else 255.0
        full = max(full, peak)
    return np.clip(np.rint(levels * (255.0 / full)), 0, 255).astype(np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    """Lays a transparent image on white; leaves an opaque one as it is."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image  # converting sRGB to sRGB would only round the values
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile is no reason to lose a sound picture
    return converted or image

"""Content-addressed files: aligned images (JPEG) and masks (1-bit PNG), named by their SHA-256.

Nothing is ever overwritten: a blob is written under a temporary name, flushed to the disk and renamed,
so a crash leaves either the whole file or none.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.files import naming, sync_folder


class BlobError(OSError):
    """A blob is missing or is not what its name says."""


class Blobs:
    """Files of one kind below a folder, at ``ab/abcdef….suffix``."""

    def __init__(self, root: Path, suffix: str) -> None:
        self.root = root
        self.suffix = suffix

    def path(self, sha256: str) -> Path:
        """Where the blob of this hash lies, whether or not it is there."""
        return self.root / sha256[:2] / f"{sha256}{self.suffix}"

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256 in hexadecimal; storing them again is free."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        if not path.exists():
            write_atomically(path, data)
        return sha256

    def read(self, sha256: str) -> bytes:
        """Read a blob back and check its hash.

        Raises:
            BlobError: the file is missing or damaged.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BlobError(f"{path} is missing: restore it from a backup of the home") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobError(f"{path} is damaged: its bytes do not hash to its name")
        return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes so that the file is whole or absent, also after a crash.

    Others may read the file if they may enter its folder: servers run as other users, and it is the
    home that keeps people out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with naming(path), os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def encode_mask_png(mask: NDArray[np.bool_]) -> bytes:
    """Encode a mask, bool [H, W], as the bytes of a 1-bit PNG."""
    ok, data = cv2.imencode(
        ".png", mask.view(np.uint8) * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1]
    )
    if not ok:
        raise ValueError(f"a mask of shape {mask.shape} cannot be written as PNG")
    return data.tobytes()


def decode_mask_png(data: bytes) -> NDArray[np.bool_]:
    """Decode a PNG into a mask, bool [H, W].

    Raises:
        ValueError: the bytes are not an image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError("not a PNG")
    return np.asarray(image > 127)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encode RGB uint8 [H, W, 3] as a JPEG of quality 98 without chroma subsampling or metadata."""
    ok, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        [
            cv2.IMWRITE_JPEG_QUALITY,
            98,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
    )
    if not ok:
        raise ValueError(f"an image of shape {image.shape} cannot be written as JPEG")
    return data.tobytes()


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an aligned image as RGB uint8 [H, W, 3].

    Raises:
        BlobError: the file is missing or is not an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise BlobError(f"{path} is missing or not an image: restore it from a backup of the home")
    return np.asarray(image, dtype=np.uint8)

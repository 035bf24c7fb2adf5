"""Files of the home are whole or absent, and servers that run as other users can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dataset_engine.store.blobs import BlobError, Blobs, write_atomically


def test_a_file_can_be_read_by_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "x.jpg", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.jpg").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]


def test_a_damaged_blob_is_not_taken_for_a_sound_one(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, ".png")
    sha256 = blobs.put(b"mask")
    assert blobs.read(sha256) == b"mask"
    blobs.path(sha256).write_bytes(b"task")
    with pytest.raises(BlobError, match="damaged"):
        blobs.read(sha256)
    blobs.path(sha256).unlink()
    with pytest.raises(BlobError, match="missing"):
        blobs.read(sha256)

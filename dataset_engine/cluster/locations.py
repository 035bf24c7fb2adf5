"""Files at any fsspec location that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from fsspec.core import url_to_fs


@contextlib.contextmanager
def written_whole(location: str) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name when the block has ended well.

    It is written beside it, under a temporary name, flushed to the disk where there is one, and moved:
    whoever writes the same file at the same time, or is killed, leaves no half of one.
    """
    files, path = url_to_fs(location)
    parent, _, name = path.rpartition("/")
    files.makedirs(parent, exist_ok=True)
    temporary = f"{parent}/.{name}-{uuid.uuid4().hex}.tmp"
    try:
        with files.open(temporary, "wb") as file:
            yield file
            file.flush()
            if hasattr(file, "fileno"):
                with contextlib.suppress(OSError):  # a remote file has no descriptor
                    os.fsync(file.fileno())
        files.mv(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(temporary)
        raise


def join(folder: str, name: str) -> str:
    """The location of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def exists(location: str) -> bool:
    """Whether there is a file."""
    files, path = url_to_fs(location)
    return bool(files.exists(path))


def names(folder: str) -> set[str]:
    """Names of what lies in a folder; none when there is no folder."""
    files, path = url_to_fs(folder)
    # what others have written since an earlier look counts too
    files.invalidate_cache(path)
    try:
        return {str(found).rpartition("/")[2] for found in files.ls(path, detail=False)}
    except FileNotFoundError:
        return set()

"""Files that appear whole or not at all, and the lock that keeps two exports apart."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dataset_engine.shards.errors import ExportBusyError

TEMPORARY: Final = ".tmp"
_LOCK: Final = ".export.lock"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an ``OSError`` that names no file name this one: writing to a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write ``path`` under a temporary name, fsync it, and rename it into place."""
    temporary = path.with_name(path.name + TEMPORARY)
    with naming(path), temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def export_lock(folder: Path) -> Iterator[None]:
    """Hold the one export of ``folder``.

    The kernel drops the lock with the process, so a lock file left by a killed export is stale by
    itself and is simply taken over; the process id in it is for the message only.

    Raises:
        ExportBusyError: if another process holds it.
    """
    path = folder / _LOCK
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file between our open and our lock.
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise ExportBusyError(
                f"{path.parent}: an export is already running ({holder}). "
                "Wait for it to end, or stop that process; nothing it finished is lost."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)

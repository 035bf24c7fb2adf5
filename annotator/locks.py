"""One process at a time: a lock that the system gives back when its holder dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 1.0
"""Looking whether a lock is held takes it for a moment; so long a taker waits for a looker."""


class LockHeldError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, busy: str, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: the file; made if need be.
        busy: what to say when another process holds it.
        patience: seconds that are waited for it.

    Raises:
        LockHeldError: another process holds it.
    """
    deadline = time.monotonic() + patience
    with path.open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise LockHeldError(busy) from error
                time.sleep(0.05)
            else:
                break
        yield


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

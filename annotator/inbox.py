"""Bodies that were acknowledged and are not applied yet: one file each, so that a crash loses none.

A body is on the disk before its sender hears that it arrived. One thread applies them in the order of
their arrival and removes a file once what it brought is recorded; after a crash it begins again with
the first file that is there, so applying has to be idempotent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import Event, Thread

from sqlalchemy.exc import InterfaceError, OperationalError

from dataset_engine.store.blobs import write_atomically

SUFFIX = ".json"
KEPT_REFUSED = 1000
"""Files in ``refused`` at most; the oldest go first."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a database or a disk that does not take anything is tried again."""

log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - what becomes of a body, and read as such
    """A body that cannot be applied, however often it is tried."""


class Inbox:
    """A queue of bodies in a folder.

    Args:
        folder: the queue's own folder; made if need be.
        apply: records what a body brings; it may be given the same body again.
    """

    def __init__(self, folder: Path, apply: Callable[[bytes], object]) -> None:
        self._folder = folder
        self._apply = apply
        self._numbers = count()
        self._news = Event()
        self._stop = Event()
        self._thread: Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, body: bytes) -> None:
        """Keep a body until it is applied; it is on the disk when this returns."""
        name = f"{time.time_ns():020d}-{next(self._numbers):06d}{SUFFIX}"
        write_atomically(self._folder / name, body)
        self._news.set()

    def waiting(self) -> int:
        """How many bodies are not applied yet."""
        return len(self._files())

    def start(self) -> None:
        """Begin to apply what is there and what comes."""
        self._stop.clear()
        self._thread = Thread(target=self._run, name="inbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the body in hand; the others wait for the next start."""
        self._stop.set()
        self._news.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def drain(self) -> None:
        """Apply in this thread what is there now.

        Raises:
            OSError: or SQLAlchemy's errors, when the store cannot take anything at the moment.
        """
        for path in self._files():
            self._settle(path)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            self._news.clear()
            try:
                for path in self._files():
                    if self._stop.is_set():
                        return
                    self._settle(path)
                    pause = FIRST_PAUSE
            except (OSError, OperationalError, InterfaceError) as error:
                cause = getattr(error, "orig", None) or error
                log.warning("webhooks wait: the store takes nothing now (%s)", cause)
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self._news.wait()

    def _settle(self, path: Path) -> None:
        """Apply a file and remove it; one that cannot be applied is set aside with its reason."""
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return  # another service of this home was faster
        try:
            self._apply(body)
        except Refused as error:
            self._set_aside(path, str(error))
        except (OSError, OperationalError, InterfaceError):
            raise
        except Exception as error:
            # whatever is wrong with this one, those behind it must not wait for ever
            log.exception("a webhook could not be applied")
            self._set_aside(path, repr(error))
        else:
            path.unlink(missing_ok=True)

    def _set_aside(self, path: Path, reason: str) -> None:
        refused = self._folder / "refused"
        refused.mkdir(exist_ok=True)
        log.warning("a webhook was set aside as %s: %s", refused / path.name, reason)
        path.replace(refused / path.name)
        for old in sorted(refused.iterdir())[:-KEPT_REFUSED]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"[0-9]*{SUFFIX}"))

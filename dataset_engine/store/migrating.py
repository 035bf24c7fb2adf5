"""Bringing a database that may still be starting to the current schema."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from dataset_engine.store.database import upgrade

PAUSE_S = 1.0


def migrate(url: str, wait_s: float = 0.0, report: Callable[[str], None] = lambda _: None) -> None:
    """Bring the schema up to the newest revision; nothing happens where it is there already.

    Args:
        url: SQLAlchemy URL of the engine's database.
        wait_s: how long to wait for a database that does not answer yet, seconds.
        report: is told, in a line, that it is being waited for.

    Raises:
        OperationalError: the database does not answer within that time.
        RuntimeError: see `dataset_engine.store.database.upgrade`.
    """
    deadline = time.monotonic() + wait_s
    shown = make_url(url).set(query={}).render_as_string()
    while True:
        try:
            upgrade(url)
        except OperationalError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            report(f"waiting for the database {shown}: {left:.0f} s left")
            time.sleep(min(PAUSE_S, left))
        else:
            return

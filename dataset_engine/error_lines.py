"""Errors as one line for people: what went wrong, why, and the mend.

Errors of the engine's own say all that themselves. Those of the database and of HTTP do not, and are
told apart without importing either: what was never imported cannot have raised anything.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataset_engine.settings import Settings

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FREE_SPACE = "free some space, then run this again; what was finished before is kept"


def error_line(error: Exception, settings: Settings | None) -> str | None:
    """One line for an error, or None for one that only a mistake in the code can raise."""
    if _is(error, "sqlalchemy.exc", "SQLAlchemyError"):
        return _database_line(error, settings)
    if _is(error, "httpx", "HTTPError") or _is(error, "httpx", "InvalidURL"):
        return _http_line(error)
    if isinstance(error, OSError) and error.errno in FULL:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}: {FREE_SPACE}"
    if isinstance(error, OSError | RuntimeError | ValueError):
        return str(error)
    return None


def _is(error: Exception, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _database_line(error: Exception, settings: Settings | None) -> str:
    cause = str(getattr(error, "orig", None) or error).partition("\n(Background")[0]
    cause = " ".join(cause.split())
    if "is full" in cause or "No space left" in cause:
        mend = FREE_SPACE
    elif "is locked" in cause:
        mend = "another command has been writing for long; run this one again when it is done"
    else:
        mend = "see that REFSTAR_DATABASE_URL is right, that the database is up, and that it and "
        mend += "its disk can be written"
    return f"the database {_shown_url(settings)}: {cause}: {mend}"


def _shown_url(settings: Settings | None) -> str:
    """The database's URL without its password, also where that is among the parameters."""
    from sqlalchemy import make_url  # noqa: PLC0415 - it is there when it has raised an error
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        url = make_url(settings.resolved_database_url) if settings else None
    except ArgumentError:
        url = None
    if url is None:
        return "of REFSTAR_DATABASE_URL"
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.set(query={}).render_as_string()


def _http_line(error: Exception) -> str:
    cause = str(error) or type(error).__name__
    request = getattr(error, "_request", None)
    asked = request.url.copy_with(username=None, password=None, query=None) if request else "HTTP"
    return f"{asked}: {cause}: see that the server is up and can be reached from here"

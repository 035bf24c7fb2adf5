"""The service's log: lines for people, or one JSON object a line for programs.

A line names methods, paths and statuses; never a query, a header or a body.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from dataset_engine.settings import Settings

ACCESS = "uvicorn.access"


def log_config(settings: Settings) -> dict[str, Any]:
    """Logging's configuration for the service, of `logging.config.dictConfig`'s form."""
    here = f"{__name__}."
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"no_query": {"()": f"{here}WithoutQuery"}},
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {"()": f"{here}JsonLines"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": settings.log_format,
                "filters": ["no_query"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        # httpx names whole addresses at this level
        "loggers": {"httpx": {"level": "WARNING"}},
    }


class WithoutQuery(logging.Filter):
    """Cuts the query off the paths of uvicorn's access lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through, shortened."""
        if record.name == ACCESS and isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, version, status = record.args
            record.args = (client, method, str(path).partition("?")[0], version, status)
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and an error's traceback.

    Access lines have ``method``, ``path`` and ``status`` of their own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, in which no character can begin a new line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.name == ACCESS and isinstance(record.args, tuple) and len(record.args) == 5:
            _, line["method"], line["path"], _, line["status"] = record.args
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)

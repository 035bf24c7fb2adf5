"""Django settings that the Label Studio server runs with; only its own Python imports this file.

Label Studio's SQLite defaults lose predictions: an import beside annotation writes meets "database
is locked", is retried after the predictions were already taken out of the tasks, and answers 201
with none of them stored. Taking the write lock at the start of each transaction, and waiting for
it, prevents that.
"""

# mypy: ignore-errors
from label_studio.core.settings.base import *  # noqa: F403

# Both must be set between the two imports: the second reads them, and fails on a circular import.
SENTRY_DSN = None
FRONTEND_SENTRY_DSN = None

from label_studio.core.settings.label_studio import *  # noqa: E402, F403

if DJANGO_DB == DJANGO_DB_SQLITE:  # noqa: F405
    DATABASES["default"]["OPTIONS"] = {  # noqa: F405
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

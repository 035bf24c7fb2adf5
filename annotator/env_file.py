"""`.env` for a team's set-up: every secret at random, readable by its owner alone, never overwritten.

docker-compose.yml, a systemd unit's ``EnvironmentFile`` and a shell read the file alike, so no value has
a character that means something to any of them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sqlalchemy import URL

from annotator.secrets import VARIABLES, new_secrets

COMPOSE_HOST = "postgres"
"""Name of docker-compose.yml's own PostgreSQL."""

ROLES = {"refstar": "REFSTAR", "label_studio": "LABEL_STUDIO"}
"""Role and database of PostgreSQL -> the variables' prefix; docs/deploy/databases.sh makes them."""


def write_env_file(path: Path, *, postgres: str | None = None) -> None:
    """Write a new file of settings, mode 0600.

    Args:
        path: the file; nothing may be there.
        postgres: host of a PostgreSQL for engine and Label Studio: ``postgres`` is the one of
            docker-compose.yml, an absolute path a folder with a server's socket; None for SQLite.

    Raises:
        FileExistsError: there is such a file; the message says what to do.
    """
    lines = ["# Made by `engine init-env`. Whoever reads this can sign in as anybody."]
    made = new_secrets()
    lines += [f"{variable}={made[name]}" for name, variable in VARIABLES.items()]
    lines += ["", "# Photographs for `docker compose run --rm engine ingest /photographs`."]
    lines += ["REFSTAR_PHOTOGRAPHS=./photographs"]
    if postgres is not None:
        lines += ["", "# PostgreSQL; docs/deploy/databases.sh makes roles and databases of these."]
        lines += [f"{name}={value}" for name, value in _database(postgres).items()]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise FileExistsError(
            f"{path} exists and is left as it is, since servers may have been set up with its "
            "secrets: move it away to have new ones"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _database(host: str) -> dict[str, str]:
    given: dict[str, str] = {}
    urls: dict[str, str] = {}
    for role, prefix in ROLES.items():
        password = secrets.token_hex(20)
        given[f"{prefix}_DB_PASSWORD"] = password
        url = URL.create("postgresql+psycopg", username=role, password=password, database=role)
        # a socket's folder does not fit between @ and /
        url = url.set(query={"host": host}) if host.startswith("/") else url.set(host=host)
        urls[role] = url.render_as_string(hide_password=False)
    given["REFSTAR_DATABASE_URL"] = urls["refstar"]
    given["REFSTAR_LABEL_STUDIO_DATABASE_URL"] = urls["label_studio"]
    if host == COMPOSE_HOST:
        given["COMPOSE_PROFILES"] = "postgres"
        given["POSTGRES_PASSWORD"] = secrets.token_hex(20)
        given["LABEL_STUDIO_DJANGO_DB"] = "default"
    return given

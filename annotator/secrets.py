"""Secrets of a home: taken from the environment, or made once and kept where only the owner reads."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from annotator.server import Credentials

SERVICE_USER = "refstar"
"""The name that goes with the service's password; it is no secret."""


@dataclass(frozen=True, repr=False)
class HomeSecrets:
    """What the home's own Label Studio, the webhook and the review pages need.

    Attributes:
        credentials: first user of the server.
        webhook_secret: value of the webhook's secret header.
        review_password: what people sign in to the review pages with.
        session_secret: signs their sessions and sign-in links; another one ends them all.
        service_password: what Label Studio asks the pre-annotation service with.
        metrics_token: what a program that watches the service reads `/metrics` with.
    """

    credentials: Credentials
    webhook_secret: str
    review_password: str
    session_secret: str
    service_password: str
    metrics_token: str


VARIABLES = {
    "username": "LABEL_STUDIO_USERNAME",
    "password": "LABEL_STUDIO_PASSWORD",
    "token": "LABEL_STUDIO_USER_TOKEN",
    "webhook_secret": "REFSTAR_WEBHOOK_SECRET",
    "review_password": "REFSTAR_REVIEW_PASSWORD",
    "session_secret": "REFSTAR_SESSION_SECRET",
    "service_password": "REFSTAR_SERVICE_PASSWORD",
    "metrics_token": "REFSTAR_METRICS_TOKEN",
}


def new_secrets() -> dict[str, str]:
    """A random value for each name in `VARIABLES`."""
    return asdict(Credentials.generate()) | {
        "webhook_secret": secrets.token_urlsafe(32),
        "review_password": secrets.token_urlsafe(12),
        "session_secret": secrets.token_urlsafe(32),
        "service_password": secrets.token_urlsafe(32),
        "metrics_token": secrets.token_urlsafe(32),
    }


def home_secrets(home: Path) -> HomeSecrets:
    """Read the home's secrets; what is missing is made at random and kept in ``secrets.json``.

    Variables of the environment win, and are not written to the disk.

    Raises:
        ValueError: the file is damaged; the message says how to mend it.
    """
    path = home / "secrets.json"
    kept: dict[str, str] = {}
    if path.exists():
        try:
            kept = {str(k): str(v) for k, v in json.loads(path.read_text()).items()}
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): restore it, or delete it and set a new password "
                "in Label Studio"
            ) from error
    if missing := {k: v for k, v in new_secrets().items() if k not in kept}:
        kept |= missing
        _write_private(path, json.dumps(kept, indent=2))
    given = {
        name: os.environ[variable]
        for name, variable in VARIABLES.items()
        if os.environ.get(variable)
    }
    chosen = {name: given.get(name, kept[name]) for name in VARIABLES}
    login = {field.name: chosen.pop(field.name) for field in fields(Credentials)}
    return HomeSecrets(Credentials(**login), **chosen)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

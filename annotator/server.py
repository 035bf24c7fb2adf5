"""The Label Studio server as a child process: own environment, loopback, data in the home."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from sqlalchemy import make_url

from annotator.kept_process import KeptProcess

HOST = "127.0.0.1"
START_SECONDS = 1200.0
"""A first start migrates an empty database: half a minute on a fast machine, many minutes on one that
has a tenth of a core left for it. A server that ends is noticed at once."""

LABEL_STUDIO_VERSION = "1.23.2"
"""The version that everything here was tested with."""

_SETTINGS_FOLDER = Path(__file__).with_name("label_studio_server")
# Loopback is where the pre-annotation service is; everything else that is private stays banned.
_BANNED_SUBNETS = (
    "0.0.0.0/8,10.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7,fe80::/10"
)
_FOREIGN_PREFIXES = ("PYTHON", "VIRTUAL_ENV", "DJANGO", "LABEL_STUDIO_", "LOCAL_FILES_", "POSTGRE")


class ServerError(RuntimeError):
    """Label Studio could not be started, with the cause and what to do about it."""


@dataclass(frozen=True)
class Credentials:
    """The first user of a Label Studio server that the engine starts.

    Attributes:
        username: an e-mail address, as Label Studio requires.
        password: password of the login page.
        token: 40 hexadecimal digits, Label Studio's legacy API token.
    """

    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    @classmethod
    def generate(cls, username: str = "annotator@example.com") -> Credentials:
        """New credentials with a random password and token."""
        return cls(username, secrets.token_urlsafe(12), secrets.token_hex(20))


class LabelStudioServer:
    """A Label Studio server that lives as long as this object, or as this process at most.

    Use it as a context manager, or call `start` and `close`.

    Args:
        command: the ``label-studio`` program of the server's own environment.
        data: folder for the server's database and its log, ``label-studio.log``.
        document_root: folder whose subfolders may be registered as local storages.
        credentials: first user; fixed for good by the first start with this data folder.
        port: port on loopback; None for a free one.
        database_url: a PostgreSQL database, as ``postgresql://user:password@host/name``; None for a
            SQLite file in the data folder.
        public_url: how people reach the server through a proxy; None without one.
        report: called about once a second during a start with a line to show.
    """

    def __init__(
        self,
        command: Path,
        data: Path,
        document_root: Path,
        credentials: Credentials,
        *,
        port: int | None = None,
        database_url: str | None = None,
        public_url: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.command = command
        self.data = data.absolute()
        self.document_root = document_root.absolute()
        self.credentials = credentials
        self._wanted_port = port
        self._database = _database_variables(database_url)
        self._public_url = public_url
        self._report = report or _say_nothing
        self._port: int | None = None
        self._process: KeptProcess | None = None

    @property
    def url(self) -> str:
        """Base URL, known once the server was started."""
        if self._port is None:
            raise ServerError("Label Studio was not started: call start() first")
        return f"http://{HOST}:{self._port}"

    @property
    def log(self) -> Path:
        """Everything that the server prints."""
        return self.data / "label-studio.log"

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start the server and wait until it answers with these credentials.

        Raises:
            ServerError: no such program, a busy port, a server that ends or never answers, or a
                data folder that was made with other credentials.
        """
        if self.running:
            return
        check_label_studio(self.command)
        self._port = _claim_port(self._wanted_port)
        self.data.mkdir(parents=True, exist_ok=True)
        self.document_root.mkdir(parents=True, exist_ok=True)
        command = [str(self.command), "start", "--internal-host", HOST, "--port", str(self._port)]
        command += ["--no-browser", "--data-dir", str(self.data)]
        self._process = KeptProcess(command, self.log, self._environment())
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the server and all its children; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIXES)}
        # A proxy for the outside world cannot reach the service on this machine.
        direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        direct = ",".join([*([direct] if direct else []), HOST, "localhost"])
        return kept | {
            "NO_PROXY": direct,
            "no_proxy": direct,
            "PYTHONPATH": str(_SETTINGS_FOLDER),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "ls_settings",
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data),
            "LABEL_STUDIO_HOST": self._public_url or self.url,
            # without it, no form that comes through a proxy with TLS is taken
            "CSRF_TRUSTED_ORIGINS": self._public_url or self.url,
            "LABEL_STUDIO_USERNAME": self.credentials.username,
            "LABEL_STUDIO_PASSWORD": self.credentials.password,
            "LABEL_STUDIO_USER_TOKEN": self.credentials.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "false",
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "USER_ADDITIONAL_BANNED_SUBNETS": _BANNED_SUBNETS,
            "WEBHOOK_TIMEOUT": "5",
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "LOCAL_FILES_DOCUMENT_ROOT": str(self.document_root),
            **self._database,
        }

    def _wait(self) -> None:
        begun = reported = time.monotonic()
        with httpx.Client(base_url=self.url, timeout=5.0, trust_env=False) as client:
            while not _healthy(client):
                now = time.monotonic()
                if not self.running:
                    raise ServerError(f"Label Studio ended while starting; {self._log_tail()}")
                if now - begun > START_SECONDS:
                    raise ServerError(
                        f"Label Studio did not answer at {self.url} within {START_SECONDS:.0f} s;"
                        f" run the same command again, it goes on; {self._log_tail()}"
                    )
                if now - reported >= 1.0:
                    reported = now
                    self._report(
                        f"Label Studio is starting: {now - begun:.0f} s"
                        " (the first start prepares its database, about half a minute)"
                    )
                time.sleep(0.1)
            token = {"Authorization": f"Token {self.credentials.token}"}
            if client.get("/api/current-user/whoami", headers=token).status_code != httpx.codes.OK:
                raise ServerError(
                    f"{self.data}: this Label Studio was made with another API token; give back"
                    " the secrets it was made with, or move the folder away to begin anew"
                )
        self._report(f"Label Studio is ready at {self.url} ({time.monotonic() - begun:.0f} s)")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return f"the end of {self.log}:\n" + "\n".join(lines)


def check_label_studio(command: Path) -> None:
    """See that there is a Label Studio to start.

    Raises:
        ServerError: there is none; the message says how to get one.
    """
    if not command.is_file():
        raise ServerError(
            f"{command}: no Label Studio here. It needs an environment of its own: `make install` in a "
            "checkout, or `python3 -m venv .venv-label-studio && .venv-label-studio/bin/pip install "
            f"label-studio=={LABEL_STUDIO_VERSION}` in this folder; or name its program in "
            "REFSTAR_LABEL_STUDIO_COMMAND"
        )


def _database_variables(url: str | None) -> dict[str, str]:
    if url is None:
        return {"DJANGO_DB": "sqlite"}
    parts = make_url(url)
    if parts.get_backend_name() != "postgresql":
        raise ServerError(
            "REFSTAR_LABEL_STUDIO_DATABASE_URL has to begin with postgresql:// (Label Studio keeps a "
            "SQLite file of its own when the variable is not set)"
        )
    socket_folder = parts.query.get("host", "localhost")
    return {
        "DJANGO_DB": "default",  # Label Studio's name for PostgreSQL
        "POSTGRE_HOST": parts.host or str(socket_folder),
        "POSTGRE_PORT": str(parts.port or 5432),
        "POSTGRE_NAME": parts.database or "label_studio",
        "POSTGRE_USER": parts.username or "label_studio",
        "POSTGRE_PASSWORD": parts.password or "",
    }


def _say_nothing(_: str) -> None:
    pass


def _claim_port(wanted: int | None) -> int:
    """The wanted port if nothing listens on it (Label Studio would silently take the next one)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise ServerError(
                f"port {wanted} on {HOST} cannot be used ({error.strerror}): stop what listens"
                " there, or choose another with REFSTAR_LABEL_STUDIO_PORT"
            ) from error
        port: int = probe.getsockname()[1]
    return port


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False

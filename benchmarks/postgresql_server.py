"""A PostgreSQL server of one's own for as long as a test run or a benchmark lasts.

Started from the programs that Debian's package ``postgresql`` installs, in a temporary folder, on a
Unix socket there and on no network at all. The folder is the server's user's alone, so nobody else
gets in although there is no password.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL, create_engine, text

PROGRAMS = "/usr/lib/postgresql"
STARTS_WITHIN_S = 60


class PostgresqlServer:
    """Starts in ``with`` and is gone afterwards, with all its data.

    When this process is killed, the server ends, too; then its folder is left.

    Args:
        durable: keep what a power cut would lose, as a real server does; a test needs none of that.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: the server does not start.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = programs()
        self._durable = durable
        # the server refuses to run as root
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._folder = Path(tempfile.mkdtemp(prefix="refstar-pg-"))
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database on this server."""
        return URL.create(
            "postgresql+psycopg",
            username=self._user,
            database=database,
            query={"host": str(self._folder)},
        ).render_as_string()

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, empty or as a copy of another one; returns its URL."""
        self._administer(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._administer(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def __enter__(self) -> PostgresqlServer:
        if os.geteuid() == 0:
            shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        try:
            made = subprocess.run(
                self._as_user([str(self._programs / "initdb"), "-D", str(data), *options]),
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            if made.returncode:
                raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
            self._start(data)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, data: Path) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": "60",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = self._folder / "log"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                self._as_user(command), stdout=output, stderr=output, cwd="/"
            )
        deadline = time.monotonic() + STARTS_WITHIN_S
        ready = self._as_user([str(self._programs / "pg_isready"), "-q", "-h", str(self._folder)])
        while subprocess.run(ready, check=False, cwd="/").returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text().strip()[-2000:]}")
            time.sleep(0.05)

    def _as_user(self, command: Sequence[str]) -> list[str]:
        """The command as the server's user; the kernel ends it when this process dies."""
        become = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            become += [f"--reuid={self._user}", f"--regid={self._user}", "--init-groups"]
        return [*become, "--", *command]

    def _administer(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def programs() -> Path:
    """The folder of the newest PostgreSQL's programs.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [path.parent for path in Path(PROGRAMS).glob("*/bin/postgres")]
    if not found:
        raise FileNotFoundError(f"no PostgreSQL server in {PROGRAMS}: apt-get install postgresql")
    return max(found, key=lambda path: float(path.parent.name))

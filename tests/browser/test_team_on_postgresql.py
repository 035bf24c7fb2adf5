"""docs/deploy.md followed without containers: engine and Label Studio, both on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import create_engine, make_url, text

from annotator.server import Credentials

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 4
STROKE = [(190.0, 380.0), (256.0, 392.0), (322.0, 380.0)]


class Team:
    """A folder with `.env` and a home, and the commands that are run there."""

    def __init__(self, folder: Path, label_studio: Path) -> None:
        self.folder = folder
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("REFSTAR_", "LABEL_STUDIO_"))
        } | {
            "REFSTAR_HOME": str(folder / "home"),
            "REFSTAR_LABEL_STUDIO_COMMAND": str(label_studio),
            "OMP_NUM_THREADS": "1",
        }
        with (
            socket.create_server(("127.0.0.1", 0)) as one,
            socket.create_server(("127.0.0.1", 0)) as two,
        ):
            self.ports = [str(probe.getsockname()[1]) for probe in (one, two)]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "dataset_engine.cli", *words]

    def engine(self, *words: str, expected: int = 0) -> str:
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout

    def pairs(self) -> dict[str, int]:
        return dict(json.loads(self.engine("status", "--json"))["pairs"])

    def await_pairs(self, status: str, count: int) -> None:
        deadline = time.monotonic() + 10
        while (found := self.pairs())[status] != count:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)

    @contextmanager
    def annotating(self) -> Iterator[str]:
        """The open workplace; gives the address of the labelling pages."""
        log = self.folder / "annotate.log"
        words = ["annotate", "--port", self.ports[0], "--service-port", self.ports[1]]
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(*words), cwd=self.folder, env=self.variables, stdout=out, stderr=out
            )
        try:
            deadline = time.monotonic() + 240
            while "Ctrl-C closes" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{self.ports[0]}"
        finally:
            process.terminate()
            process.wait(120)


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("SELECT table_name FROM information_schema.tables")
        found = {str(name) for name in connection.scalars(query)}
    engine.dispose()
    return found


def test_a_team_is_set_up_by_the_documented_commands_and_works(
    postgresql: Any,
    label_studio_command: Path,
    studio_at: Callable[[str, Credentials], Any],
    tmp_path: Path,
) -> None:
    administrator = make_url(postgresql.url("postgres"))
    host = str(administrator.query["host"])
    team = Team(tmp_path, label_studio_command)

    team.engine("init-env", "--postgres", host)
    lines = (tmp_path / ".env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    team.variables |= given
    for _ in range(2):  # harmless to repeat, as the file says
        subprocess.run(
            ["sh", str(ROOT / "docs" / "deploy" / "databases.sh")],
            env=team.variables | {"PGHOST": host, "PGUSER": str(administrator.username)},
            check=True,
        )
    team.engine("migrate", "--wait", "20")
    team.engine("sample", "faces", "--identities", "2", "--shots", "3")
    team.engine("ingest", "faces", "--licence", "CC0-1.0")

    with team.annotating() as url:
        team.engine("bootstrap", "--seed", str(SEEDS), expected=3)
        credentials = Credentials(
            given["LABEL_STUDIO_USERNAME"],
            given["LABEL_STUDIO_PASSWORD"],
            given["LABEL_STUDIO_USER_TOKEN"],
        )
        studio = studio_at(url, credentials)
        studio.open_task(1, 1)
        studio.take_label("conflict")
        studio.stroke(STROKE)
        studio.choose("mouth")
        studio.choose("accept")
        studio.submit()
        team.await_pairs("adjusted", 1)

        page = studio.page
        page.goto(f"http://127.0.0.1:{team.ports[1]}/review")
        page.wait_for_selector("#ask-name[open]")
        page.keyboard.type("Anna")
        page.keyboard.press("Enter")
        expect(page.locator(".card[aria-selected=true]")).to_be_focused()
        page.keyboard.press("a")
        team.await_pairs("accepted", 1)

    assert {"events", "pair_states"} <= tables(given["REFSTAR_DATABASE_URL"])
    assert {"task", "prediction"} <= tables(given["REFSTAR_LABEL_STUDIO_DATABASE_URL"])
    assert not list(tmp_path.rglob("*.sqlite*"))

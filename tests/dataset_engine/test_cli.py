"""The command line: help with examples, one message for an error, JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dataset_engine.cli import app
from dataset_engine.taxonomy import Status

TOP = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = sorted(
    f"{name} {inner}".strip()
    for name, command in TOP.items()
    for inner in getattr(command, "commands", [""])
)
RUN = CliRunner()


def test_the_commands_that_people_were_promised_are_there() -> None:
    assert set(COMMANDS) >= {
        "ablate",
        "annotate",
        "backup",
        "bootstrap",
        "compare-proposals",
        "demo",
        "evaluate",
        "evaluate-refsel",
        "evaluate-transfer",
        "explain",
        "export",
        "forget",
        "import-shards",
        "ingest",
        "make-test-set",
        "move-store",
        "proposals list",
        "proposals run",
        "proposals take",
        "quality gold",
        "restore",
        "restore-backup",
        "review-link",
        "sample-shards",
        "status",
        "sync",
        "train-refsel",
        "train-restoration",
        "weights",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = RUN.invoke(app, [*command.split(), "--help"])
    assert answer.exit_code == 0
    assert "Example: engine" in answer.output


def test_status_of_an_empty_home_in_words_and_in_json(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home")]
    words = RUN.invoke(app, [*home, "status"])
    assert words.exit_code == 0
    assert all(status in words.output for status in Status)
    answer = json.loads(RUN.invoke(app, [*home, "status", "--json"]).output)
    assert answer["pairs"] == dict.fromkeys(Status, 0)


@pytest.mark.parametrize(
    ("command", "cause", "mend"),
    [
        (["ingest", "nowhere"], "nowhere is not a folder", "folder per identity"),
        (["sync"], "Label Studio is not running", "annotate"),
        (["bootstrap"], "Label Studio is not running", "annotate"),
        (["verify", "nowhere"], "nowhere", "export"),
        (["train-refsel", "nowhere"], "nowhere", "export"),
    ],
)
def test_an_error_is_one_message_with_its_cause_and_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], cause: str, mend: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = RUN.invoke(app, ["--home", str(tmp_path / "home"), *command])
    assert answer.exit_code == 1
    assert "Traceback" not in answer.output
    assert cause in answer.output
    assert mend in answer.output


def test_a_database_that_cannot_be_opened_is_one_line_with_its_cause_and_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFSTAR_DATABASE_URL", f"sqlite:///{tmp_path}/[/old]/x.sqlite")
    answer = RUN.invoke(app, ["--home", str(tmp_path / "home"), "status"])
    assert answer.exit_code == 1
    assert isinstance(answer.exception, SystemExit)
    (line,) = answer.output.splitlines()
    assert line.startswith(f"error: the database {tmp_path}/[/old]/x.sqlite: unable to open")
    assert "REFSTAR_DATABASE_URL" in line


def test_a_home_on_the_command_line_may_begin_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert RUN.invoke(app, ["--home", "~/work", "status"]).exit_code == 0
    assert (tmp_path / "work" / "refstar.sqlite").is_file()


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home"), "--debug"]
    answer = RUN.invoke(app, [*home, "ingest", str(tmp_path / "nowhere")])
    assert isinstance(answer.exception, NotADirectoryError)


def test_help_does_not_wait_for_large_packages() -> None:
    code = (
        "import sys; import dataset_engine.cli as c\n"
        "try: c.app(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'fastapi', 'sqlalchemy', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

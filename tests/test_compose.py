"""docker-compose.yml is valid, names commands that exist, and publishes nothing but loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dataset_engine.cli import app

ROOT = Path(__file__).resolve().parent.parent
SECRETS = (
    "LABEL_STUDIO_USERNAME",
    "LABEL_STUDIO_PASSWORD",
    "LABEL_STUDIO_USER_TOKEN",
    "REFSTAR_WEBHOOK_SECRET",
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def client() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        program = shutil.which(command[0])
        if program is None:
            continue
        if not subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            return command
    return None


@pytest.mark.skipif(client() is None, reason="there is no docker compose client here")
@pytest.mark.parametrize("missing", [None, *SECRETS])
def test_the_compose_client_takes_the_file_and_wants_every_secret(missing: str | None) -> None:
    given = {name: "x" for name in SECRETS if name != missing}
    command = [*(client() or ()), "-f", str(ROOT / "docker-compose.yml"), "config"]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"]} | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (missing is None), done.stderr
    assert missing is None or missing in done.stderr


def test_only_loopback_ports_are_published(compose: dict[str, Any]) -> None:
    published = [
        port for service in compose["services"].values() for port in service.get("ports", [])
    ]
    assert published == ["127.0.0.1:8080:8080"]


def test_label_studio_is_pinned_to_the_version_that_is_tested(compose: dict[str, Any]) -> None:
    pinned = (ROOT / "constraints-label-studio.txt").read_text().splitlines()
    version = compose["services"]["label-studio"]["image"].partition(":")[2]
    assert f"label-studio=={version}" in pinned


def test_the_services_commands_are_commands_of_the_engine(compose: dict[str, Any]) -> None:
    ours = [s["command"] for s in compose["services"].values() if "command" in s]
    assert len(ours) == 3
    for name, *options in ours:
        answer = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
        assert answer.exit_code == 0
        assert all(option in answer.output for option in options if option.startswith("--"))


def test_the_example_of_secrets_holds_none() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    assert set(SECRETS) <= values.keys()
    assert not any(values[name] for name in SECRETS if name != "LABEL_STUDIO_USERNAME")

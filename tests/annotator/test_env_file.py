"""`engine init-env`: random secrets, for their owner alone, never overwritten, read by all alike."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from annotator.env_file import write_env_file
from annotator.secrets import VARIABLES, home_secrets
from dataset_engine.cli import app
from dataset_engine.settings import Settings


def read(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def test_two_files_share_no_secret_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_env_file(first, postgres="postgres")
    write_env_file(second, postgres="postgres")
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    one, other = read(first), read(second)
    assert set(VARIABLES.values()) <= one.keys()
    same = {name for name in one if one[name] == other[name]}
    assert same == {
        "COMPOSE_PROFILES",
        "LABEL_STUDIO_DJANGO_DB",
        "LABEL_STUDIO_USERNAME",
        "REFSTAR_PHOTOGRAPHS",
    }


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    answer = CliRunner().invoke(app, ["init-env", str(path)])
    assert answer.exit_code == 1
    assert "move it away" in " ".join(answer.output.split())
    assert path.read_text() == "MINE=1\n"


@pytest.mark.parametrize("host", ["localhost", "db.example.org", "/run/postgresql", None])
def test_the_engine_finds_the_databases_that_the_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str | None
) -> None:
    write_env_file(tmp_path / ".env", postgres=host)
    for name, value in read(tmp_path / ".env").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    if host is None:
        assert settings.database_url is None
        assert settings.label_studio_database_url is None
        return
    for given, role in (
        (settings.database_url, "refstar"),
        (settings.label_studio_database_url, "label_studio"),
    ):
        url = make_url(str(given))
        assert (url.username, url.database) == (role, role)
        assert (url.host or url.query["host"]) == host
    assert (
        make_url(str(settings.database_url)).password
        == read(tmp_path / ".env")["REFSTAR_DB_PASSWORD"]
    )


def test_a_shell_reads_every_value_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_env_file(path, postgres="postgres")
    shown = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; env"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in read(path).items()} <= set(shown)


def test_a_home_takes_its_secrets_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env_file(tmp_path / ".env")
    given = read(tmp_path / ".env")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    secrets = home_secrets(tmp_path / "home")
    assert secrets.metrics_token == given["REFSTAR_METRICS_TOKEN"]
    assert secrets.credentials.token == given["LABEL_STUDIO_USER_TOKEN"]
    kept = (tmp_path / "home" / "secrets.json").read_text()
    assert not any(given[name] in kept for name in given if name != "LABEL_STUDIO_USERNAME")

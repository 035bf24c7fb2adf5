"""Settings come from the environment, forgive how it is spelled, and keep secrets to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from dataset_engine.settings import Settings


@pytest.mark.usefixtures("settings")
def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABEL_STUDIO_URL", "REFSTAR_DATABASE_URL", "REFSTAR_SEED", "REFSTAR_HOME"):
        monkeypatch.setenv(name, "")
    assert Settings() == Settings.model_construct()


@pytest.mark.usefixtures("settings")
def test_one_server_has_one_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://studio:8080/")
    assert Settings().label_studio_url == "http://studio:8080"


def test_a_tilde_is_the_home_folder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home=Path("~/work")).home == tmp_path / "work"


def test_secrets_are_not_shown() -> None:
    given = Settings(
        database_url="postgresql://u:hush@db/refstar",
        label_studio_token="hush",  # type: ignore[arg-type]
    )
    assert "hush" not in repr(given) + str(given)
    assert given.resolved_database_url == "postgresql://u:hush@db/refstar"


def test_the_database_lies_in_the_home_whatever_its_name(
    settings: Settings, tmp_path: Path
) -> None:
    home = tmp_path / "a b?c#d%20e"
    url = make_url(Settings(home=home).resolved_database_url)
    assert url.database == str(home / "refstar.sqlite")
    assert not url.query

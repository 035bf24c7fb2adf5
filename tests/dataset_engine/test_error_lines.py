"""What people are told of errors that the database and HTTP raise."""

from __future__ import annotations

import sqlite3

import httpx
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from dataset_engine.error_lines import error_line
from dataset_engine.settings import Settings


def test_a_database_is_named_without_its_password() -> None:
    settings = Settings(database_url="postgresql://u:hush@db/refstar?password=hush")
    line = error_line(OperationalError("SELECT 1", {}, OSError("no\nroute")), settings)
    assert line is not None
    assert line.startswith("the database postgresql://u:***@db/refstar: no route: ")
    assert "\n" not in line
    assert "REFSTAR_DATABASE_URL" in line
    assert "hush" not in line


def test_a_locked_database_asks_to_run_again(settings: Settings) -> None:
    locked = sqlite3.OperationalError("database is locked")
    line = error_line(OperationalError("UPDATE x", {}, locked), settings)
    assert line is not None
    assert f"{settings.home}/refstar.sqlite: database is locked" in line
    assert "run this one again" in line


def test_a_database_url_that_is_none_is_not_repeated() -> None:
    settings = Settings(database_url="//u:hush@db")
    with pytest.raises(ArgumentError) as caught:
        make_url(settings.resolved_database_url)
    line = error_line(caught.value, settings)
    assert line is not None
    assert "REFSTAR_DATABASE_URL" in line
    assert "hush" not in line


def test_an_http_error_names_who_was_asked_without_secrets(settings: Settings) -> None:
    request = httpx.Request("GET", "http://u:hush@studio:8080/api?token=hush")
    line = error_line(httpx.ReadTimeout("", request=request), settings)
    assert line is not None
    assert line.startswith("http://studio:8080/api: ReadTimeout: ")
    assert error_line(httpx.ReadError("gone"), None) is not None


def test_mistakes_in_the_code_are_not_hidden() -> None:
    assert error_line(KeyError("x"), None) is None
    assert error_line(ValueError("x"), None) == "x"

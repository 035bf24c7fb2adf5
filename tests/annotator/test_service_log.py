"""The service's log: one line a record whatever is in it, and no query of anybody."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Iterator

import pytest

from annotator.service_log import log_config
from dataset_engine.settings import Settings

ACCESS = ("127.0.0.1:1", "GET", "/review?identity=anna", "1.1", 200)
FORMAT = '%s - "%s %s HTTP/%s" %d'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str], **given: str) -> list[str]:
    logging.config.dictConfig(log_config(Settings(**given)))  # type: ignore[arg-type]
    logging.getLogger("uvicorn.access").info(FORMAT, *ACCESS)
    logging.getLogger("annotator").warning("a name\nwith a line %s", "break\r\n")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("annotator").exception("failed")
    return capsys.readouterr().err.splitlines()


def test_json_is_one_object_a_line_with_the_traceback_inside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    access, warning, error = map(json.loads, lines(capsys, log_format="json"))
    assert (access["method"], access["path"], access["status"]) == ("GET", "/review", 200)
    assert access["level"] == "info"
    assert warning["message"] == "a name\nwith a line break\r\n"
    assert "ValueError: broken" in error["error"]
    assert access["time"].endswith("+00:00")


def test_text_names_no_query_either(capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = lines(capsys)
    assert 'GET /review HTTP/1.1" 200' in first
    assert "anna" not in first


def test_less_weighty_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [one for one in lines(capsys, log_level="error", log_format="json") if one]
    assert json.loads(line)["message"] == "failed"

"""The service's log: one line a record whatever is in it, and no query of anybody."""

from __future__ import annotations

import json
import subprocess
import sys

# in a process of its own: configuring logging closes every handler that a process has
LOGGING = """
import json, logging, logging.config, sys
from annotator.service_log import log_config
from dataset_engine.settings import Settings
logging.config.dictConfig(log_config(Settings(**json.loads(sys.argv[1]))))
access = ("127.0.0.1:1", "GET", "/review?identity=anna", "1.1", 200)
logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *access)
logging.getLogger("annotator").warning("a name\\nwith a line %s", "break\\r\\n")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("annotator").exception("failed")
"""


def lines(**given: str) -> list[str]:
    command = [sys.executable, "-c", LOGGING, json.dumps(given)]
    done = subprocess.run(command, check=True, capture_output=True)
    return done.stderr.decode().splitlines()


def test_json_is_one_object_a_line_with_the_traceback_inside() -> None:
    access, warning, error = map(json.loads, lines(log_format="json"))
    assert (access["method"], access["path"], access["status"]) == ("GET", "/review", 200)
    assert access["level"] == "info"
    assert warning["message"] == "a name\nwith a line break\r\n"
    assert "ValueError: broken" in error["error"]
    assert access["time"].endswith("+00:00")


def test_text_names_no_query_either() -> None:
    first, *_ = lines()
    assert 'GET /review HTTP/1.1" 200' in first
    assert "anna" not in first


def test_less_weighty_lines_are_left_out() -> None:
    (line,) = [one for one in lines(log_level="error", log_format="json") if one]
    assert json.loads(line)["message"] == "failed"

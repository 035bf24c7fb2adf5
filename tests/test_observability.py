"""The dashboard and the page about it ask for figures that the service really gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotator.service import whole_service
from dataset_engine.settings import Settings
from dataset_engine.store import Store

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def given(store: Store, settings: Settings) -> set[str]:
    """The names of all figures, a histogram's three included."""
    with TestClient(
        whole_service(store, settings, "127.0.0.1"), base_url="http://127.0.0.1:9090"
    ) as client:
        text = client.get("/metrics").text
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (refstar_\w+) (\w+)$", text, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    assert len(names) > 8
    return names


def expressions(panels: list[dict[str, Any]]) -> list[str]:
    inner = [one for panel in panels for one in panel.get("panels", [])]
    return [target["expr"] for panel in (*panels, *inner) for target in panel.get("targets", [])]


def test_every_panel_asks_for_figures_that_there_are(given: set[str]) -> None:
    dashboard = json.loads((DOCS / "deploy" / "grafana-dashboard.json").read_text())
    asked = expressions(dashboard["panels"])
    assert len(asked) >= 5
    for expression in asked:
        named = set(re.findall(r"refstar_\w+", expression))
        assert named, expression
        assert named <= given, expression


def test_the_page_explains_every_figure_and_no_other(given: set[str]) -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(refstar_\w+)", text, re.MULTILINE))
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in given}
    assert told == plain
    asked = set(re.findall(r"refstar_\w+", text))
    assert asked <= given | plain

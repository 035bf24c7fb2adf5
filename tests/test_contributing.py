"""The recipes of CONTRIBUTING.md: a step that is forgotten is found, and what they name is there."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from annotator.review.pages import CONFLICT_KEYS
from dataset_engine.store.tables import PairState
from dataset_engine.taxonomy import Conflict, Scenario
from restoration.evaluate_methods.quoted import SYNTHETIC
from restoration.evaluate_methods.table_one import BESIDE, LOWER_IS_BETTER
from restoration.metric_tools import MetricWeights, open_tools
from restoration.metrics import Metric, definitions

ROOT = Path(__file__).resolve().parent.parent


def test_every_file_that_a_recipe_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])[\w-]+(?:/[\w-]+)+(?:\.[a-z]+|/)", text))
    assert len(named) > 10
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_a_kind_of_conflict_has_the_same_key_on_both_pages() -> None:
    page = ElementTree.fromstring(files("annotator").joinpath("labelling.xml").read_text())  # noqa: S314 - ours
    labelling = {
        choice.get("value"): choice.get("hotkey")
        for name in ("dynamic", "static")
        for choice in page.findall(f".//Choices[@name='{name}']/Choice")
    }
    assert {str(kind): key for kind, key in CONFLICT_KEYS.items()} == labelling
    script = files("annotator.review.web").joinpath("grid.js").read_text()
    found = re.search(r'^const DIGITS = "(.+)";$', script, re.MULTILINE)
    assert found
    assert list(found[1]) == list(CONFLICT_KEYS.values())


def test_every_kind_of_conflict_is_reported_in_a_scenario_and_explained_to_annotators() -> None:
    assert {kind for scenario in Scenario for kind in scenario.conflicts} == set(Conflict)
    told = (ROOT / "docs" / "annotate.md").read_text(encoding="utf-8")
    assert not [kind for kind in Conflict if f"`{kind}`" not in told]


def test_all_kinds_of_conflict_together_fit_their_column() -> None:
    width = PairState.__table__.columns["conflicts"].type.impl.length  # type: ignore[attr-defined]
    assert len(",".join(Conflict)) <= width


def test_a_metric_has_its_column_its_arrow_and_its_line(tmp_path: Path) -> None:
    known = definitions(open_tools(MetricWeights.in_folder(tmp_path)))
    assert known.keys() == set(Metric)
    assert {*SYNTHETIC, *BESIDE} == set(Metric)
    assert {one for one in Metric if not known[one].higher_is_better} == LOWER_IS_BETTER
    told = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert not [one for one in Metric if one not in told]

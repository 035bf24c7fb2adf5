"""The labelling page in a real browser: what is painted and picked is what is submitted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator.label_studio import LabelStudio, PredictionData, TaskData, image_url
from annotator.results import parse_annotation, proposal_result
from annotator.server import LabelStudioServer
from dataset_engine.taxonomy import Conflict

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Y, X = np.mgrid[:512, :512]
REGION = ((X - 256) / 160) ** 2 + ((Y - 270) / 210) ** 2 < 1
PROPOSAL = REGION & ~(((X - 256) / 70) ** 2 + ((Y - 370) / 35) ** 2 < 1)
STROKE = [(180.0, 230.0), (256.0, 240.0), (330.0, 230.0)]


def make_task(client: LabelStudio, server: LabelStudioServer, pair: str) -> tuple[int, int]:
    """A project with one task of this name and a proposal over its reference."""
    picture = server.document_root / "aligned" / "face.jpg"
    if not picture.exists():
        shade = np.where(REGION, 190, 90).astype(np.uint8)
        Image.fromarray(np.stack([shade, shade - 20, shade - 40], -1)).save(picture, quality=98)
    project = client.ensure_project("Labelling page")
    client.ensure_storage(project, picture.parent)
    url = image_url("aligned/face.jpg")
    (task,) = client.import_tasks(project, [TaskData(pair, gt=url, ref=url)])
    result = proposal_result(PROPOSAL, 0.8)
    client.import_predictions(project, [PredictionData(task, "test-1", 0.8, result)])
    client.set_model_version(project, "test-1")
    return project, task


@pytest.mark.parametrize("attempt", range(int(os.environ.get("REFSTAR_REPEAT", "1"))))
def test_a_conflict_painted_over_the_proposal_is_submitted(
    label_studio: LabelStudio,
    label_studio_server: LabelStudioServer,
    studio_page: Any,
    attempt: int,
) -> None:
    project, task = make_task(label_studio, label_studio_server, f"paint-{attempt}")
    studio_page.open_task(project, task)
    assert [region["label"] for region in studio_page.regions()] == ["consistent"]

    studio_page.take_label("conflict")
    studio_page.stroke(STROKE)
    studio_page.choose("eyes")
    studio_page.choose("glasses")
    studio_page.choose("accept")
    stored = studio_page.submit()

    parsed = parse_annotation(stored, REGION)
    assert parsed.verdict == "accept"
    assert parsed.conflicts == {Conflict.EYES, Conflict.GLASSES}
    assert parsed.origins == {"prediction", "manual"}
    assert parsed.painted
    assert parsed.mask is not None
    lost = PROPOSAL & ~parsed.mask
    assert not (parsed.mask & ~PROPOSAL).any()
    assert lost[230:241, 200:310].any(axis=0).all()
    assert not lost[300:].any()
    assert [a["id"] for a in label_studio.annotations(project) if a["task"] == task] == [
        stored["id"]
    ]


def test_a_stroke_on_the_selected_proposal_extends_it(
    label_studio: LabelStudio, label_studio_server: LabelStudioServer, studio_page: Any
) -> None:
    project, task = make_task(label_studio, label_studio_server, "extend")
    studio_page.open_task(project, task)
    studio_page.select_region("consistent")
    studio_page.page.keyboard.press("b")
    studio_page.stroke([(220.0, 370.0), (290.0, 370.0)])
    studio_page.choose("accept")
    parsed = parse_annotation(studio_page.submit(), REGION)
    assert parsed.origins == {"prediction-changed"}
    assert parsed.mask is not None
    added = parsed.mask & ~PROPOSAL
    assert added[370, 225:285].all()
    assert np.array_equal(parsed.mask & PROPOSAL, PROPOSAL)


def test_an_untouched_proposal_is_submitted_as_it_was(
    label_studio: LabelStudio, label_studio_server: LabelStudioServer, studio_page: Any
) -> None:
    project, task = make_task(label_studio, label_studio_server, "untouched")
    studio_page.open_task(project, task)
    studio_page.page.keyboard.press("a")
    parsed = parse_annotation(studio_page.submit(), REGION)
    assert parsed.verdict == "accept"
    assert parsed.origins == {"prediction"}
    assert not parsed.painted
    assert parsed.mask is not None
    assert np.array_equal(parsed.mask, PROPOSAL)


def test_nothing_is_submitted_without_a_verdict(
    label_studio: LabelStudio, label_studio_server: LabelStudioServer, studio_page: Any
) -> None:
    project, task = make_task(label_studio, label_studio_server, "no-verdict")
    studio_page.open_task(project, task)
    studio_page.page.keyboard.press("Control+Enter")
    studio_page.page.get_by_text("Give a verdict").wait_for()
    assert not [a for a in label_studio.annotations(project) if a["task"] == task]


@pytest.mark.parametrize("width", [1280, 1600])
def test_everything_is_in_sight_without_scrolling(
    label_studio: LabelStudio,
    label_studio_server: LabelStudioServer,
    studio_page: Any,
    width: int,
    tmp_path: Path,
) -> None:
    project, task = make_task(label_studio, label_studio_server, "in-sight")
    studio_page.page.set_viewport_size({"width": width, "height": 800})
    studio_page.open_task(project, task)
    studio_page.screenshot(tmp_path / f"labelling-{width}.png")
    boxes = {
        name: studio_page.page.locator(f".lsf-choice input[name='{name}']").bounding_box()
        for name in [*Conflict, "accept", "reject"]
    }
    for name, box in boxes.items():
        assert box["y"] + box["height"] < 740, name
        assert box["x"] > 240, name
    _, top, shown, height = studio_page.settle()["box"]
    assert abs(shown - height) < 2
    assert shown >= 290
    assert boxes["mouth"]["y"] > top + height

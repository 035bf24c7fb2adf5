"""A click in the labelling page: what it toggles, what a second one does, and what is never lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from annotator import patches as patches_module
from annotator.brush import decode_mask
from annotator.clicks import FACES, Clicks, newest_click
from annotator.label_studio import image_url
from annotator.patches import Patches
from annotator.project_form import labelling_config
from annotator.results import brush_region, choice_region, parse_annotation
from annotator.service import create_app
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.parts import Part, facial_parts
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import pair_by_key
from dataset_engine.store.tables import Pair

NOSE = Part.NOSE


def mesh() -> Any:
    """A mesh with a nose and a mouth in the middle of the face, and everything else in one point."""
    points = np.full((478, 2), 20.0, np.float32)
    points[[33, 133]], points[[362, 263]] = (180, 240), (330, 240)
    nose = (168, 122, 196, 236, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279)
    angle = np.linspace(0, 2 * np.pi, len(nose), endpoint=False)
    points[list(nose)] = np.stack([256 + 30 * np.sin(angle), 300 - 30 * np.cos(angle)], axis=-1)
    points[[429, 420, 456, 419, 351]] = points[279]
    return points


class Fixed(Landmarks):
    """Landmarks that are the same for every image."""

    def of(self, image: Any) -> Any:
        assert image.sha256
        return mesh()


class NoPatches(Patches):
    """No patch anywhere."""

    def at(self, pair: Pair, column: int, row: int) -> None:  # type: ignore[override]
        return None


@pytest.fixture
def pair(fill: Callable[..., None], first_pair: Callable[[], Pair]) -> Pair:
    fill(identities=2)
    return first_pair()


@pytest.fixture
def clicks(store: Store) -> Clicks:
    landmarks = Fixed(store)
    return Clicks(store, landmarks, NoPatches(store, landmarks, lambda: None))


def click(x: float, y: float, *, positive: bool = True) -> dict[str, Any]:
    """A click as the labelling page sends it, at a pixel of the reference."""
    return {
        "original_width": 512,
        "original_height": 512,
        "image_rotation": 0,
        "value": {"x": x / 5.12, "y": y / 5.12, "width": 0.87, "keypointlabels": ["part"]},
        "is_positive": positive,
        "id": "Hs2E_8V9ES",
        "from_name": "click",
        "to_name": "ref",
        "type": "keypointlabels",
        "origin": "manual",
    }


def context(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"result": list(entries)}


def draft(after: float, *regions: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.now(UTC) + timedelta(seconds=after)
    return {"user": "a@b.c", "updated_at": moment.isoformat(), "result": list(regions)}


def nose_of(store: Store, pair: Pair) -> Any:
    return facial_parts(mesh(), store.mask(pair.ref.region_sha256))[NOSE]


def test_a_click_calls_a_whole_part_conflict_and_the_next_takes_it_back(
    store: Store, pair: Pair, clicks: Clicks
) -> None:
    labels = []
    for _ in range(3):
        (region,) = clicks.answer(pair, {"id": 8}, context(click(256, 300)))
        assert region["id"] == "click-nose"
        assert np.array_equal(decode_mask(region["value"]["rle"], 512, 512), nose_of(store, pair))
        labels += region["value"]["brushlabels"]
    assert labels == ["conflict", "consistent", "conflict"]


def test_a_part_that_the_proposal_leaves_out_is_put_back_first(
    store: Store, pair: Pair, clicks: Clicks
) -> None:
    mask = store.mask(pair.ref.region_sha256) & ~nose_of(store, pair)
    add_proposals(store, "unet-r1", 1, [NewProposal(pair.id, mask, 0.5)])
    (region,) = clicks.answer(pair, {"id": 8}, context(click(256, 300)))
    assert region["value"]["brushlabels"] == ["consistent"]


def test_a_negative_click_always_says_consistent(pair: Pair, clicks: Clicks) -> None:
    for _ in range(2):
        (region,) = clicks.answer(pair, {"id": 8}, context(click(256, 300, positive=False)))
        assert region["value"]["brushlabels"] == ["consistent"]


def test_an_undo_that_the_draft_shows_is_believed(pair: Pair, clicks: Clicks) -> None:
    clicks.answer(pair, {"id": 8}, context(click(256, 300)))
    undone = {"id": 8, "drafts": [draft(1)]}
    (region,) = clicks.answer(pair, undone, context(click(256, 300)))
    assert region["value"]["brushlabels"] == ["conflict"]


def test_a_draft_from_before_the_click_is_not_believed(pair: Pair, clicks: Clicks) -> None:
    clicks.answer(pair, {"id": 8}, context(click(256, 300)))
    (region,) = clicks.answer(pair, {"id": 8, "drafts": [draft(-5)]}, context(click(256, 300)))
    assert region["value"]["brushlabels"] == ["consistent"]


def test_a_reopened_draft_or_annotation_says_what_a_part_is(
    store: Store, pair: Pair, clicks: Clicks
) -> None:
    was = brush_region(nose_of(store, pair), "conflict") | {"id": "click-nose"}
    for name in ("drafts", "annotations"):
        task = {"id": name, name: [draft(-60, was)]}
        (region,) = clicks.answer(pair, task, context(click(256, 300)))
        assert region["value"]["brushlabels"] == ["consistent"]


def test_tasks_do_not_share_what_was_clicked(pair: Pair, clicks: Clicks) -> None:
    for task in (8, 9):
        (region,) = clicks.answer(pair, {"id": task}, context(click(256, 300)))
        assert region["value"]["brushlabels"] == ["conflict"]


def test_the_newest_of_several_clicks_counts(pair: Pair, clicks: Clicks) -> None:
    other = brush_region(np.ones((512, 512), bool), "conflict")
    sent = context(click(256, 300), click(1, 1), other)
    assert clicks.answer(pair, {"id": 8}, sent) == []


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"result": None},
        {"result": ["x"]},
        {"result": [click(256, 300) | {"value": None}]},
        {"result": [click(256, 300) | {"value": {"x": "5", "y": 5}}]},
        {"result": [click(256, 300) | {"value": {"x": True, "y": 5}}]},
        {"result": [click(256, 300) | {"value": {"x": float("nan"), "y": 5}}]},
        {"result": [click(256, 900)]},
        {"result": [click(256, 300) | {"to_name": "gt"}]},
    ],
)
def test_what_is_no_click_is_answered_with_nothing(
    pair: Pair, clicks: Clicks, bad: dict[str, Any]
) -> None:
    assert newest_click(bad) is None
    assert clicks.answer(pair, {"id": 8}, bad) == []


def test_a_click_at_the_edge_is_in_the_picture(pair: Pair, clicks: Clicks) -> None:
    assert clicks.answer(pair, {"id": 8}, context(click(512, 512))) == []


@pytest.mark.parametrize("drafts", [None, "x", [3], [{"updated_at": "never"}], [{"result": 3}]])
def test_a_strange_draft_is_no_draft(pair: Pair, clicks: Clicks, drafts: Any) -> None:
    task = {"id": 8, "drafts": drafts}
    (region,) = clicks.answer(pair, task, context(click(256, 300)))
    assert region["value"]["brushlabels"] == ["conflict"]


def test_memory_is_bounded(store: Store, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FACES <= 256
    monkeypatch.setattr("annotator.clicks.FACES", 1)
    monkeypatch.setattr("annotator.clicks.REMEMBERED", 2)
    landmarks = Fixed(store)
    clicks = Clicks(store, landmarks, NoPatches(store, landmarks, lambda: None))
    with store.reading() as session:
        other = pair_by_key(session, session.get_one(Pair, 2).key)
    assert other is not None
    for one in (pair, other, pair):
        for task in range(5):
            assert clicks.answer(one, {"id": task}, context(click(256, 300)))
    assert len(clicks._faces) == 1
    assert len(clicks._answered) == 2


def test_elsewhere_a_click_toggles_the_patch_in_doubt(
    store: Store, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = np.zeros((512, 512), bool)
    doubtful[400:410, 200:215] = True
    doubtful[420:440, 300:320] = True
    doubtful[120:122, 300:302] = True  # a speck
    asked = []

    def by_rule(self: Patches, one: Pair) -> Any:
        asked.append(one.id)
        return doubtful

    monkeypatch.setattr(patches_module.Patches, "_by_rule", by_rule)
    landmarks = Fixed(store)
    clicks = Clicks(store, landmarks, Patches(store, landmarks, lambda: None))
    (region,) = clicks.answer(pair, {"id": 8}, context(click(205, 412)))
    assert region["id"] == "click-patch-200-400"
    assert region["value"]["brushlabels"] == ["conflict"]
    mask = decode_mask(region["value"]["rle"], 512, 512)
    assert mask[400:410, 200:215].all()
    assert mask.sum() == 150
    assert clicks.answer(pair, {"id": 8}, context(click(301, 121))) == []
    assert clicks.answer(pair, {"id": 8}, context(click(256, 200))) == []
    (other,) = clicks.answer(pair, {"id": 8}, context(click(310, 430)))
    assert other["id"] == "click-patch-300-420"
    assert asked == [pair.id]


def test_clicks_and_strokes_merge_exactly_and_conflict_wins(
    store: Store, pair: Pair, clicks: Clicks
) -> None:
    region = store.mask(pair.ref.region_sha256)
    nose = nose_of(store, pair)
    random = np.random.default_rng(4)
    for _ in range(20):
        proposal = region & (random.random((512, 512)) < 0.7)
        stroke = random.random((512, 512)) < 0.1
        (clicked,) = clicks.answer(pair, {"id": 8}, context(click(256, 300)))
        body = [
            brush_region(proposal, "consistent") | {"origin": "prediction", "score": 0.8},
            clicked | {"origin": "manual"},
            click(256, 300),
            brush_region(stroke, "conflict") | {"id": "Yxt14GD3so", "origin": "manual"},
            choice_region("verdict", ["accept"]),
        ]
        parsed = parse_annotation({"result": json.loads(json.dumps(body))}, region)
        if clicked["value"]["brushlabels"] == ["conflict"]:
            expected = region & proposal & ~nose & ~stroke
        else:
            expected = region & (proposal | nose) & ~stroke
        assert np.array_equal(parsed.mask, expected)
        assert parsed.painted


def test_the_page_has_a_smart_keypoint_for_clicks() -> None:
    config = labelling_config()
    assert '<KeyPointLabels name="click" toName="ref" smart="true" smartOnly="true"' in config


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(store, "home", "s3cret", 200_000)) as opened:
        yield opened


def test_the_service_answers_a_click_and_stores_nothing(
    client: TestClient, store: Store, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Landmarks, "of", lambda _, __: mesh())
    data = {"pair": pair.key} | {
        name: image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())
        for name, image in (("gt", pair.gt), ("ref", pair.ref))
    }
    body = {
        "tasks": [{"id": 8, "annotations": [], "drafts": [], "predictions": [], "data": data}],
        "label_config": "<View/>",
        "params": {"login": None, "password": None, "context": context(click(256, 300))},
    }
    asked = client.post("/predict", json=body)
    assert asked.status_code == 200, asked.text
    (answer,) = asked.json()["results"]
    assert answer["model_version"] == "click"
    (region,) = answer["result"]
    assert (region["id"], region["value"]["brushlabels"]) == ("click-nose", ["conflict"])
    assert (region["from_name"], region["to_name"]) == ("mask", "ref")
    with store.reading() as session:
        assert session.get_one(Pair, pair.id).key == pair.key
    body["params"] = {"context": "no context"}
    assert client.post("/predict", json=body).json()["results"][0]["model_version"] != "click"

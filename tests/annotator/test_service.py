"""The pre-annotation service: Label Studio's contract, and what it answers to bad input."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from annotator.brush import decode_mask
from annotator.label_studio import image_url
from annotator.results import review_result
from annotator.service import SECRET_HEADER, create_app
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.tables import (
    AnnotationProject,
    AnnotationTask,
    Event,
    Pair,
    PairState,
    Proposal,
)
from dataset_engine.taxonomy import Conflict, Status

SECRET = "s3cret"
PROJECT, TASK = 5, 40
LIMIT = 200_000


@pytest.fixture
def pair(store: Store, fill: Callable[..., None], first_pair: Callable[[], Pair]) -> Pair:
    """A pair that was sent as task 40 of project 5."""
    fill(identities=2)
    with store.writing() as session:
        session.add(AnnotationProject(id=1, server="home", project=PROJECT))
        session.flush()
        session.add(AnnotationTask(project_id=1, task=TASK, pair_id=1))
    return first_pair()


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(store, "home", SECRET, LIMIT)) as opened:
        yield opened


def mask_of(store: Store, pair: Pair, rows: int = 20) -> Any:
    mask = store.mask(pair.ref.region_sha256).copy()
    mask[: 250 + rows] = False
    return mask


def task(store: Store, pair: Pair) -> dict[str, Any]:
    relative = {
        name: store.images.path(image.sha256).relative_to(store.served).as_posix()
        for name, image in (("gt", pair.gt), ("ref", pair.ref))
    }
    return {
        "id": TASK,
        "data": {"pair": pair.key} | {name: image_url(path) for name, path in relative.items()},
        "annotations": [],
        "predictions": [],
    }


def webhook(
    store: Store, pair: Pair, action: str = "ANNOTATION_CREATED", **changed: Any
) -> dict[str, Any]:
    annotation = {
        "id": 1,
        "task": TASK,
        "project": PROJECT,
        "completed_by": 1,
        "was_cancelled": False,
        "lead_time": 3.2,
        "updated_at": "2026-11-24T08:09:05.924072Z",
        "result": review_result(mask_of(store, pair), frozenset({Conflict.MOUTH}), "accept"),
    } | changed
    return {"action": action, "annotation": annotation, "project": {"id": PROJECT}}


def post(client: TestClient, body: Any, secret: str | None = SECRET) -> Any:
    headers = {} if secret is None else {SECRET_HEADER: secret}
    return client.post("/webhook", json=body, headers=headers)


def take(client: TestClient, store: Store, body: Any) -> None:
    """Post, and wait until it is taken out of the inbox."""
    assert post(client, body).status_code == 202
    deadline = time.monotonic() + 10
    while list((store.home / "inbox").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def status_of(store: Store) -> str:
    with store.reading() as session:
        return session.get_one(PairState, 1).status


def events(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(Event.id))) or 0


def test_health_and_setup_name_the_model_version(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "UP", "model_version": "rule-1"}
    setup = {"project": "5.1", "schema": "<View/>", "hostname": "x", "access_token": "y"}
    assert client.post("/setup", json=setup).json() == {"model_version": "rule-1"}


def test_predict_serves_the_stored_proposal(client: TestClient, store: Store, pair: Pair) -> None:
    mask = mask_of(store, pair)
    add_proposals(store, "unet-r1", 1, [NewProposal(1, mask, 0.75)])
    answer = client.post("/predict", json={"tasks": [task(store, pair)], "project": "5.1"})
    (result,) = answer.json()["results"]
    assert (result["model_version"], result["score"]) == ("unet-r1", 0.75)
    (region,) = result["result"]
    assert region["value"]["brushlabels"] == ["consistent"]
    assert np.array_equal(decode_mask(region["value"]["rle"], 512, 512), mask)


def test_predict_answers_this_engines_project_only(
    client: TestClient, store: Store, pair: Pair
) -> None:
    body = {"tasks": [task(store, pair)], "project": "6.1795507719"}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 403
    assert "project 6" in answer.json()["detail"]
    assert client.post("/predict", json=body | {"project": "x"}).status_code == 422


def test_predict_makes_what_is_missing_and_keeps_it(
    client: TestClient, store: Store, pair: Pair
) -> None:
    for _ in range(2):
        answer = client.post("/predict", json={"tasks": [task(store, pair)]})
        (result,) = answer.json()["results"]
        assert result["model_version"] == "rule-1"
    with store.reading() as session:
        assert session.scalar(select(func.count(Proposal.id))) == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"pair": "nobody"}, "not in the store"),
        ({"pair": 3}, "names no pair"),
        ({"ref": "/data/local-files/?d=aligned/../../refstar.sqlite"}, "leaves the images folder"),
        ({"ref": "/data/local-files/?d=/etc/passwd"}, "leaves the images folder"),
        ({"ref": "http://127.0.0.1:22/"}, "not a local file"),
        ({"gt": "/data/local-files/?d=aligned/ab/other.jpg"}, "does not show the gt"),
    ],
)
def test_predict_refuses_tasks_that_do_not_show_a_pair(
    client: TestClient, store: Store, pair: Pair, changed: dict[str, Any], why: str
) -> None:
    asked = task(store, pair)
    asked["data"] |= changed
    answer = client.post("/predict", json={"tasks": [asked]})
    assert answer.status_code == 422
    assert why in answer.json()["detail"]


def test_a_webhook_is_recorded(client: TestClient, store: Store, pair: Pair) -> None:
    take(client, store, webhook(store, pair))
    with store.reading() as session:
        state = session.get_one(PairState, 1)
    assert state.status == Status.ADJUSTED
    assert state.conflicts == {Conflict.MOUTH}
    assert np.array_equal(store.mask(str(state.mask_sha256)), mask_of(store, pair))


def test_a_repeated_webhook_changes_nothing(client: TestClient, store: Store, pair: Pair) -> None:
    take(client, store, webhook(store, pair))
    take(client, store, webhook(store, pair))
    assert events(store) == 1


def test_a_skip_is_no_decision(client: TestClient, store: Store, pair: Pair) -> None:
    take(client, store, webhook(store, pair, was_cancelled=True))
    assert status_of(store) == Status.UNLABELLED
    assert events(store) == 1


def deletion(number: int = 1) -> dict[str, Any]:
    gone = [{"id": number}]
    return {"action": "ANNOTATIONS_DELETED", "annotations": gone, "project": {"id": PROJECT}}


def test_a_deletion_takes_the_decision_back(client: TestClient, store: Store, pair: Pair) -> None:
    take(client, store, webhook(store, pair))
    take(client, store, deletion())
    assert status_of(store) == Status.UNLABELLED


def test_an_update_that_comes_after_the_deletion_does_not_revive_the_mask(
    client: TestClient, store: Store, pair: Pair
) -> None:
    take(client, store, webhook(store, pair))
    take(client, store, deletion())
    late = webhook(store, pair, "ANNOTATION_UPDATED", updated_at="2026-11-24T08:10:00.5Z")
    for _ in range(2):
        take(client, store, late)
        assert status_of(store) == Status.UNLABELLED
    assert events(store) == 4  # what was painted is kept all the same


@pytest.mark.parametrize("secret", [None, "", "wrong", "s3cret "])
def test_a_webhook_without_the_secret_is_refused(
    client: TestClient, store: Store, pair: Pair, secret: str | None
) -> None:
    answer = post(client, webhook(store, pair), secret)
    assert answer.status_code == 403
    assert events(store) == 0


def test_foreign_tasks_projects_and_annotations_are_set_aside(
    client: TestClient, store: Store, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = webhook(store, pair)
    foreign["project"] = {"id": 99}
    for body, why in (
        (webhook(store, pair, task=41), "task 41"),
        (foreign, "project 99"),
        (deletion(77), "annotation 77"),
    ):
        take(client, store, body)
        assert why in caplog.text
    assert len(list((store.home / "inbox" / "refused").iterdir())) == 3
    assert events(store) == 0


def damaged(result: list[dict[str, Any]], **value: Any) -> list[dict[str, Any]]:
    first, *others = json.loads(json.dumps(result))
    first["value"] |= value
    return [first, *others]


@pytest.mark.parametrize("fault", ["truncated", "string", "size", "verdict", "choice"])
def test_an_unreadable_annotation_is_said_so_and_decides_nothing(
    client: TestClient,
    store: Store,
    pair: Pair,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = review_result(mask_of(store, pair), frozenset({Conflict.MOUTH}), "accept")
    rle = good[0]["value"]["rle"]
    result = {
        "truncated": damaged(good, rle=rle[: len(rle) // 2]),
        "string": damaged(good, rle="AAAA"),
        "size": [good[0] | {"original_width": 256}, *good[1:]],
        "verdict": good[:-1],
        "choice": [*good, good[-1] | {"from_name": "dynamic", "value": {"choices": ["hat"]}}],
    }[fault]
    take(client, store, webhook(store, pair, result=result))
    assert "unusable" in caplog.text
    assert status_of(store) == Status.UNLABELLED


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"action": "ANNOTATION_CREATED", "project": {"id": PROJECT}},
        {"action": "PROJECT_UPDATED", "project": {"id": PROJECT}},
        {
            "action": "ANNOTATIONS_DELETED",
            "annotations": [{"id": "1; drop"}],
            "project": {"id": PROJECT},
        },
        {
            "action": "ANNOTATION_CREATED",
            "annotation": {"id": 1, "task": TASK, "updated_at": "yesterday"},
            "project": {"id": PROJECT},
        },
        {
            "action": "ANNOTATION_CREATED",
            "annotation": {"id": 2**70, "task": TASK, "updated_at": "2026-11-24T08:09:05Z"},
            "project": {"id": PROJECT},
        },
    ],
)
def test_a_malformed_webhook_is_refused(
    client: TestClient, store: Store, pair: Pair, body: Any
) -> None:
    assert pair.id == 1
    assert post(client, body).status_code == 422
    assert events(store) == 0


def test_a_body_over_the_limit_is_refused_unread(
    client: TestClient, store: Store, pair: Pair
) -> None:
    huge = webhook(store, pair) | {"padding": "x" * LIMIT}
    answer = post(client, huge)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["detail"]
    assert events(store) == 0

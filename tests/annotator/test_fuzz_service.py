"""Whatever is sent to whichever endpoint, the service answers and does not break (no 5xx).

Webhooks are applied after their answer: none of these may end in an error that nobody foresaw, either.

``REFSTAR_FUZZ_CASES`` sets the number of requests over all endpoints; `make fuzz` sets it to 10,000.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from annotator.label_studio import SECRET_HEADER, image_url
from annotator.review.access import TOKEN_HEADER
from annotator.secrets import home_secrets
from annotator.service import whole_service
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import propose_face_region
from dataset_engine.store.queries import undecided
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Pair, PairState

CASES = int(os.environ.get("REFSTAR_FUZZ_CASES", "200"))
HERE = "http://127.0.0.1:9090"
PROJECT, TASK = 5, 40


@pytest.fixture
def service(store: Store, settings: Settings, fill: Callable[..., None]) -> FastAPI:
    fill(identities=2)
    propose_face_region(store, list(undecided(store, without_model="")))
    with store.writing() as session:
        session.add(AnnotationProject(id=1, server="home", project=PROJECT))
        session.flush()
        session.add(AnnotationTask(project_id=1, task=TASK, pair_id=1))
    return whole_service(store, settings, "127.0.0.1")


@pytest.fixture
def client(service: FastAPI) -> Iterator[TestClient]:
    opened = TestClient(
        service, base_url=HERE, follow_redirects=False, raise_server_exceptions=False
    )
    with opened:
        yield opened


@pytest.fixture
def known(store: Store, client: TestClient) -> dict[str, list[Any]]:
    """Values that lead further than made-up ones: a pair, its mask, its pictures."""
    with store.reading() as session:
        state = session.get_one(PairState, 1)
        pair = session.get_one(Pair, 1)
        urls = [
            image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())
            for image in (pair.gt, pair.ref)
        ]
    return {"key": [pair.key], "mask": [state.mask_sha256], "urls": urls}


def signed_in(client: TestClient, store: Store) -> dict[str, str]:
    """The headers of a page of a session, and of Label Studio."""
    found = re.search(r'name="page-token" content="([^"]+)"', client.get("/sign-in").text)
    assert found
    begun = client.post(
        "/session", json={"name": "Anna"}, headers={"Origin": HERE, TOKEN_HEADER: found[1]}
    )
    assert begun.status_code == 200
    page = re.search(r'name="page-token" content="([^"]+)"', client.get("/sign-in").text)
    assert page
    return {
        "Origin": HERE,
        TOKEN_HEADER: page[1],
        SECRET_HEADER: home_secrets(store.home).webhook_secret,
    }


def operations(app: FastAPI) -> list[Any]:
    described = app.openapi()
    schema = schemathesis.openapi.from_dict(described)
    return [found.ok() for found in schema.get_all_operations()]


def annotations(known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    """Almost what Label Studio sends."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(codec=None), max_size=12),
        st.sampled_from([TASK, PROJECT, "mask", "ref", "consistent", "brushlabels", "accept", 512]),
    )
    anything = st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    )
    brush = st.fixed_dictionaries(
        {
            "type": st.just("brushlabels") | anything,
            "from_name": st.just("mask") | anything,
            "to_name": st.just("ref"),
            "original_width": st.just(512) | anything,
            "original_height": st.just(512),
            "value": st.fixed_dictionaries(
                {
                    "rle": st.lists(st.integers(-1, 256), max_size=40) | anything,
                    "brushlabels": st.just(["consistent"]) | anything,
                }
            )
            | anything,
        }
    )
    times = st.sampled_from(["2026-11-24T08:09:05Z", "0001-01-01T00:00:00+23:59", "9999-12-31", ""])
    annotation = st.fixed_dictionaries(
        {"id": st.integers(0, 9) | anything, "task": st.just(TASK) | anything},
        optional={
            "updated_at": times | anything,
            "result": st.lists(brush | anything, max_size=3) | anything,
            "was_cancelled": anything,
            "lead_time": anything,
            "completed_by": anything,
            "updated_by": anything,
        },
    )
    return annotation | anything


def hand_made(path: str, known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    """Bodies of the endpoints whose schema says little."""
    annotation = annotations(known)
    if path == "/webhook":
        actions = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "\ud800")
        return st.fixed_dictionaries(
            {
                "action": st.sampled_from(actions) | st.text(max_size=20),
                "project": st.fixed_dictionaries({"id": st.just(PROJECT) | st.integers()}),
            },
            optional={
                "annotation": annotation,
                "annotations": st.lists(annotation, max_size=2) | annotation,
            },
        )
    texts = st.text(st.characters(codec=None), max_size=20)
    if path == "/predict":
        data = st.fixed_dictionaries(
            {},
            optional={
                "pair": st.sampled_from(known["key"]) | texts,
                "gt": st.just(known["urls"][0]) | texts,
                "ref": st.just(known["urls"][1]) | texts,
            },
        )
        task = st.fixed_dictionaries({"id": st.integers() | texts}, optional={"data": data | texts})
        return st.fixed_dictionaries({"tasks": st.lists(task, max_size=3)})
    if path == "/session":
        return st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("name", "link", "password"), texts)
        )
    click = st.fixed_dictionaries(
        {
            "click": st.sampled_from(["click-0001", "click-0002", "click-0003"]),
            "act": st.sampled_from(["accept", "reject", "restore", "undo"]),
            "pair": st.sampled_from(known["key"]) | texts,
            "age": st.sampled_from([0, 1.5, 2e6, 1e308]) | st.floats(0, 3e6),
        },
        optional={
            "mask": st.sampled_from(known["mask"]) | st.just("0" * 64) | st.none(),
            "conflicts": st.lists(st.sampled_from(["mouth", "glasses", "?"]), max_size=3),
            "undone": st.sampled_from(["click-0001", "click-0002"]) | st.none(),
            "seconds": st.floats(0, 3e6) | st.none(),
        },
    )
    return st.fixed_dictionaries({"clicks": st.lists(click, max_size=3)})


HAND_MADE = ("/webhook", "/predict", "/session", "/review/decisions")


def test_no_request_breaks_the_service(
    service: FastAPI,
    client: TestClient,
    store: Store,
    known: dict[str, list[Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    good = signed_in(client, store)
    session = dict(client.cookies)
    every = operations(service)
    assert {"/webhook", "/predict", "/session", "/review/cards"} <= {one.path for one in every}
    share = max(4, min(50, CASES // (2 * (len(every) + len(HAND_MADE)))))
    sent = 0
    statuses: set[int] = set()

    def check(answer: Any, what: object) -> None:
        nonlocal sent
        sent += 1
        statuses.add(answer.status_code)
        assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {what!r}"

    profile = hypothesis_settings(
        max_examples=share,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )

    def keep_session() -> None:
        client.cookies.clear()
        client.cookies.update(session)

    turn = 0
    while sent < CASES:
        turn += 1
        for operation in every:

            @seed(turn)
            @profile
            @given(operation.as_strategy(), st.booleans(), st.booleans())
            def schema_case(case: Any, trusted: bool, real: bool) -> None:
                keep_session()
                if real:
                    for name in ("key", "mask", "first", "second"):
                        if name in (case.path_parameters or {}):
                            case.path_parameters[name] = known["key" if name == "key" else "mask"][
                                0
                            ]
                asked = case.as_transport_kwargs(base_url=HERE)
                asked.pop("cookies", None)
                if trusted:
                    asked["headers"] = {**asked.get("headers", {}), **good}
                asked["headers"] = {
                    name: str(value).encode("latin-1", "replace")
                    for name, value in asked["headers"].items()
                }
                data = asked.pop("data", None)
                if data is not None:
                    asked["content"] = data if isinstance(data, bytes | str) else str(data)
                check(client.request(**asked), case)

            schema_case()

        for path in HAND_MADE:

            @seed(turn)
            @profile
            @given(hand_made(path, known))
            def hand_made_case(body: Any) -> None:
                keep_session()
                text = json.dumps(body)  # NaN and lone surrogates, too
                headers = {**good, "Content-Type": "application/json"}
                answer = client.post(path, content=text, headers=headers)  # noqa: B023 - called at once
                check(answer, body)

            hand_made_case()

    inbox = store.home / "inbox"
    service.state.inbox.close()
    service.state.inbox.drain()
    assert not list(inbox.glob("*.json"))
    assert {200, 404, 422} <= statuses
    assert not [record.getMessage() for record in caplog.records]

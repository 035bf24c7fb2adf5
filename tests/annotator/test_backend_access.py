"""Who may ask the service: nobody without the password, where others than this machine reach it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from annotator.backend_access import BackendAccess
from annotator.secrets import SERVICE_USER
from annotator.service import create_app
from dataset_engine.store import Store

RIGHT = (SERVICE_USER, "pass:wörd")


def opened(store: Store, *, open_here: bool, peer: str = "192.0.2.7") -> TestClient:
    access = BackendAccess(RIGHT[1], open_here)
    return TestClient(create_app(store, "home", "s", 10_000, access), client=(peer, 5000))


def asking(client: TestClient) -> dict[str, Callable[..., int]]:
    return {
        "health": lambda **auth: client.get("/health", **auth).status_code,
        "setup": lambda **auth: client.post("/setup", json={}, **auth).status_code,
        "predict": lambda **auth: client.post("/predict", json={"tasks": []}, **auth).status_code,
    }


@pytest.mark.parametrize("asked", ["health", "setup", "predict"])
def test_on_a_public_address_the_password_is_needed(store: Store, asked: str) -> None:
    ask = asking(opened(store, open_here=False))[asked]
    assert ask() == 401
    for wrong in (("", ""), (SERVICE_USER, ""), (SERVICE_USER, "wrong"), ("other", RIGHT[1])):
        assert ask(auth=wrong) == 401
    for header in ("Basic", "Basic !!!", "Bearer x", "Basic \xff"):
        assert ask(headers={"Authorization": header.encode("latin-1")}) == 401
    assert ask(auth=(RIGHT[0].encode(), RIGHT[1].encode())) == 200


def test_a_refusal_says_how_to_ask_and_tells_nothing(store: Store) -> None:
    answer = opened(store, open_here=False).post("/predict", json={"tasks": [{"id": 1}]})
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert RIGHT[1] not in answer.text
    assert "face-region" not in answer.text


def test_a_probe_of_the_same_machine_may_ask_for_health_only(store: Store) -> None:
    ask = asking(opened(store, open_here=False, peer="127.0.0.1"))
    assert ask["health"]() == 200
    assert ask["predict"]() == 401


def test_on_loopback_nothing_is_asked(store: Store) -> None:
    ask = asking(opened(store, open_here=True))
    assert [one() for one in ask.values()] == [200, 200, 200]


def test_no_other_origin_is_let_in(store: Store) -> None:
    client = opened(store, open_here=True)
    for origin in ("http://evil.example", "http://127.0.0.1:8080", "null"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (
            client.options("/predict", headers=asked),
            client.post("/predict", json={"tasks": []}, headers={"Origin": origin}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]

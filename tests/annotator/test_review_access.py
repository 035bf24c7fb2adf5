"""Who may see the review pages and their pictures, and whose changes are taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from annotator.review.access import COOKIE, TOKEN_HEADER, Access
from annotator.review.address import is_loopback
from annotator.review.application import add_review_pages, review_signer
from annotator.review.tokens import Signer, UnfitNameError, checked_name
from annotator.secrets import HomeSecrets, home_secrets
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.tables import Pair, PairState

HERE = "http://127.0.0.1:9090"
THERE = "http://faces.example:9090"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def key(store: Store, fill: Callable[..., None]) -> str:
    fill(identities=1)
    with store.reading() as session:
        pair = session.get_one(Pair, 1)
        region = store.mask(pair.ref.region_sha256)
    add_proposals(store, "unet-r1", 1, [NewProposal(1, region, 0.5)])
    return pair.key


@pytest.fixture
def secrets(store: Store) -> HomeSecrets:
    return home_secrets(store.home)


Open = Callable[..., Any]


@pytest.fixture
def opened(store: Store, settings: Settings, secrets: HomeSecrets) -> Open:
    @contextmanager
    def opening(host: str, base: str, url: str | None = None) -> Iterator[TestClient]:
        app = FastAPI()
        changed = settings.model_copy(update={"review_url": url})
        add_review_pages(app, store, changed, secrets, host)
        with TestClient(app, base_url=base, follow_redirects=False) as client:
            yield client

    return opening


def token(client: TestClient, path: str = "/sign-in") -> str:
    found = re.search(r'name="page-token" content="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


def post(client: TestClient, path: str, body: Any, **headers: str) -> Any:
    known = {"Origin": str(client.base_url).rstrip("/"), TOKEN_HEADER: token(client)}
    return client.post(path, json=body, headers=known | headers)


def addresses(store: Store, key: str) -> list[str]:
    with store.reading() as session:
        mask = session.get_one(PairState, 1).mask_sha256
    pictures = ("gt.jpg", "ref.jpg", f"card/{mask}.jpg", f"mask/{mask}.jpg", "card/none.jpg")
    return [
        "/review/cards",
        "/review/count",
        "/progress/numbers",
        f"/pictures/{key}/difference/{mask}/{mask}.jpg",
        f"/pictures/{key}/difference/{mask}/{mask}.json",
        *(f"/pictures/{key}/{name}" for name in pictures),
    ]


def pages(key: str) -> list[str]:
    return ["/review", "/progress", f"/pairs/{key}", f"/review/brush/{key}"]


def test_on_loopback_everything_can_be_seen_without_signing_in(
    opened: Open, store: Store, key: str
) -> None:
    with opened("127.0.0.1", HERE) as client:
        for address in [*addresses(store, key), "/review", "/progress", f"/pairs/{key}"]:
            assert client.get(address).status_code == 200, address


def test_elsewhere_nothing_can_be_seen_without_a_session(
    opened: Open, store: Store, key: str
) -> None:
    with opened("0.0.0.0", THERE) as client:
        for address in addresses(store, key):
            assert client.get(address).status_code == 401, address
        for page in pages(key):
            answer = client.get(page)
            assert (answer.status_code, answer.headers["location"]) == (
                303,
                f"/sign-in?next={page}",
            )
        client.cookies.set(COOKIE, "WyJBbm5hIiw5OTk5OTk5OTk5XQ.AAAA")
        for address in addresses(store, key):
            assert client.get(address).status_code == 401


def test_a_proxy_in_front_of_loopback_asks_for_a_session_too(
    opened: Open, store: Store, key: str
) -> None:
    url = "https://faces.example"
    with opened("127.0.0.1", url, url) as client:
        for address in addresses(store, key):
            assert client.get(address).status_code == 401, address


def test_the_password_opens_a_session(
    opened: Open, store: Store, key: str, secrets: HomeSecrets
) -> None:
    with opened("0.0.0.0", THERE) as client:
        wrong = post(client, "/session", {"name": "Anna", "password": "guess"})
        assert wrong.status_code == 403
        assert COOKIE not in client.cookies
        right = {"name": " Anna  Ott ", "password": secrets.review_password}
        answer = post(client, "/session", right)
        assert answer.json() == {"name": "Anna Ott"}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        for address in [*addresses(store, key), "/review"]:
            assert client.get(address).status_code == 200, address
        assert "Anna Ott" in client.get("/review").text
        post(client, "/session/end", {})
        assert client.get("/review").status_code == 303


def test_a_link_signs_one_person_in(opened: Open, key: str, secrets: HomeSecrets) -> None:
    link = review_signer(secrets).link("Bo", datetime.now(UTC))
    with opened("0.0.0.0", THERE) as client:
        assert post(client, "/session", {"link": link}).json() == {"name": "Bo"}
        assert client.get(f"/pairs/{key}").status_code == 200
    late = review_signer(secrets).link("Bo", datetime.now(UTC) - timedelta(days=60))
    tampered = link[:-4] + "AAAA"
    session = review_signer(secrets).session("Bo", datetime.now(UTC))
    with opened("0.0.0.0", THERE) as client:
        for bad in (late, tampered, session, "x", "é.é"):
            assert post(client, "/session", {"link": bad}).status_code == 403, bad


def test_signed_statements_end_and_depend_on_both_secrets() -> None:
    signer = Signer("secret", "password")
    session = signer.session("Anna", NOON)
    assert signer.session_name(session, NOON) == "Anna"
    assert signer.session_name(session, NOON + timedelta(days=15)) is None
    assert signer.link_name(session, NOON) is None
    assert Signer("other", "password").session_name(session, NOON) is None
    assert Signer("secret", "other").session_name(session, NOON) is None
    assert "secret" not in repr(signer)
    assert "password" not in repr(signer)


def test_guessing_the_password_is_slowed_down(opened: Open, secrets: HomeSecrets) -> None:
    with opened("0.0.0.0", THERE) as client:
        answers = [
            post(client, "/session", {"name": "Anna", "password": f"guess {n}"}).status_code
            for n in range(12)
        ]
        assert answers == [403] * 10 + [429] * 2
        right = {"name": "Anna", "password": secrets.review_password}
        assert post(client, "/session", right).status_code == 429


def test_a_change_has_to_come_from_a_page_of_this_service(opened: Open, key: str) -> None:
    body = {"clicks": [{"click": "click-0001", "act": "reject", "pair": key, "age": 0}]}
    with opened("127.0.0.1", HERE) as client:
        assert post(client, "/session", {"name": "Anna"}).status_code == 200
        good = {"Origin": HERE, TOKEN_HEADER: token(client)}
        refused = [
            good | {"Origin": "http://evil.example"},
            good | {"Origin": "http://127.0.0.1:8080"},
            good | {"Origin": "null"},
            {TOKEN_HEADER: good[TOKEN_HEADER]},
            {"Origin": HERE},
            good | {TOKEN_HEADER: "x" * 43},
            good | {"Sec-Fetch-Site": "cross-site"},
        ]
        for headers in refused:
            answer = client.post("/review/decisions", json=body, headers=headers)
            assert answer.status_code == 403, headers
            assert client.post("/session", json={"name": "Eve"}, headers=headers).status_code == 403
        assert client.post("/review/decisions", json=body, headers=good).status_code == 200


def test_nobody_decides_without_a_name(opened: Open, key: str) -> None:
    body = {"clicks": [{"click": "click-0001", "act": "reject", "pair": key, "age": 0}]}
    with opened("127.0.0.1", HERE) as client:
        assert post(client, "/review/decisions", body).status_code == 401
        assert post(client, "/session", {"name": "  "}).status_code == 422


def test_a_foreign_name_that_leads_to_loopback_is_refused(
    opened: Open, store: Store, key: str
) -> None:
    with opened("127.0.0.1", "http://rebound.example:9090") as client:
        for address in [*addresses(store, key), *pages(key), "/sign-in"]:
            answer = client.get(address)
            assert answer.status_code == 403, address
            assert "REFSTAR_REVIEW_URL" in answer.text
    for base in ("http://localhost:9090", "http://[::1]:9090", "http://127.0.0.2"):
        with opened("127.0.0.1", base) as client:
            assert client.get("/review").status_code == 200


def test_every_answer_carries_the_headers_that_protect_it(
    opened: Open, store: Store, key: str
) -> None:
    with opened("127.0.0.1", HERE) as client:
        for address in [*addresses(store, key), *pages(key), "/nothing"]:
            headers = client.get(address, headers={"Origin": "http://evil.example"}).headers
            policy = headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "private" in headers["cache-control"] or headers["cache-control"] == "no-store"
            assert not [name for name in headers if name.startswith("access-control-")]
        for page in ("/review", "/progress", f"/pairs/{key}", "/sign-in"):
            html = client.get(page).text
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html), page


def test_masks_and_pictures_of_other_pairs_are_not_found(
    opened: Open, store: Store, key: str
) -> None:
    with store.reading() as session:
        foreign = session.get_one(Pair, 2).ref.region_sha256
    with opened("127.0.0.1", HERE) as client:
        for path in (f"card/{foreign}.jpg", f"mask/{foreign}.jpg", f"mask/{'0' * 64}.jpg"):
            assert client.get(f"/pictures/{key}/{path}").status_code == 404
        assert client.get("/pictures/nobody/gt.jpg").status_code == 404
        assert client.get(f"/pictures/{key}/mask/..%2f..%2fsecrets.json").status_code in (404, 422)
        assert client.get("/pairs/nobody").status_code == 404


def test_loopback_is_told_by_address_and_name() -> None:
    for host in ("127.0.0.1", "localhost", "LOCALHOST", "::1", "[::1]", "127.8.8.8"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "192.168.1.2", "localhost.example", "faces.example", ""):
        assert not is_loopback(host), host
    assert not Access(Signer("a", "b"), "0.0.0.0").open_here


@pytest.mark.parametrize("name", ["", " ", "<b>", "a" * 61, "Anna\x00", "@anna", "a\nb;"])
def test_names_that_cannot_stand_beside_a_decision_are_refused(name: str) -> None:
    with pytest.raises(UnfitNameError):
        checked_name(name)


def test_names_of_people_are_taken() -> None:
    for name in ("Anna", "Jürgen Öz", "李雷", "anna.ott+2@example.com"):
        assert checked_name(name) == name

"""What strangers may try against the service and the people who use it."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotator.connection import LabelStudioUnavailable
from annotator.label_studio import SECRET_HEADER, LabelStudio, image_url
from annotator.removal import Task, remove_bodies, remove_tasks
from annotator.review import sign_in_limit
from annotator.review.access import TOKEN_HEADER
from annotator.review.sign_in_limit import SignInLimit
from annotator.review.tokens import Signer
from annotator.secrets import home_secrets
from annotator.service import whole_service
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.tables import Pair

HERE = "http://127.0.0.1:9090"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ELSEWHERE = (
    "http://169.254.169.254/latest/meta-data/",
    "https://127.0.0.1:8080/api/users",
    "//faces.example/a.jpg",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://127.0.0.1/data/local-files/?d=aligned/a.jpg",
    "http://127.0.0.1@faces.example/data/local-files/?d=aligned/a.jpg",
    "/data/local-files/?d=..%2f..%2fsecrets.json",
    "/data/local-files/?d=aligned%00.jpg",
    "\\\\faces.example\\share",
)


@pytest.fixture
def client(store: Store, settings: Settings, fill: Callable[..., None]) -> Iterator[TestClient]:
    fill(identities=1)
    app = whole_service(store, settings, "127.0.0.1")
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize("url", ELSEWHERE)
@pytest.mark.parametrize("name", ["gt", "ref"])
def test_a_tasks_urls_lead_the_service_nowhere(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    with store.reading() as session:
        pair = session.get_one(Pair, 1)
        data = {
            which: image_url(store.images.path(one.sha256).relative_to(store.served).as_posix())
            for which, one in (("gt", pair.gt), ("ref", pair.ref))
        }
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: asked.append(a))
    task = {"id": 1, "data": {"pair": pair.key} | data | {name: url}}
    answer = client.post("/predict", json={"tasks": [task]})
    assert answer.status_code == 422
    assert asked == []


def test_nothing_but_the_comparison_in_constant_time_tells_a_secret_from_a_wrong_one(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wrong secret is refused, and is let in once that comparison says that it is right."""
    signer = Signer("secret", "password")
    forged = f"{signer.session('Anna', NOON).partition('.')[0]}.{'A' * 43}"
    app = whole_service(store, settings, "0.0.0.0")
    with TestClient(app, base_url=HERE) as client:
        wrong: dict[str, Callable[[], bool]] = {
            "webhook": lambda: (
                client.post("/webhook", headers={SECRET_HEADER: "x"}).status_code != 403
            ),
            "service": lambda: client.post("/setup", auth=("refstar", "x")).status_code != 401,
            "metrics": lambda: (
                client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code != 401
            ),
            "password": lambda: signer.password_matches("x"),
            "page": lambda: signer.page_token_matches("session", "x"),
            "session": lambda: signer.session_name(forged, NOON) is not None,
        }
        assert {name for name, passes in wrong.items() if passes()} == set()
        monkeypatch.setattr("hmac.compare_digest", lambda *_: True)
        assert {name for name, passes in wrong.items() if passes()} == set(wrong)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", r'{"tasks": [{"id": "\ud800", "data": {"pair": "\ud800"}}]}'),
        ("/predict", r'{"tasks": [{"id": 1, "data": {"pair": "a\u0000b"}}]}'),
        ("/predict", '{"tasks": ' + "[" * 5000 + "]" * 5000 + "}"),
        ("/session", r'{"name": "\ud800"}'),
        ("/session", r'{"name": "Anna", "link": "\ud800.\ud800"}'),
        ("/review/decisions", r'{"clicks": [{"click": "\ud800", "act": "accept"}]}'),
        ("/webhook", '{"action": NaN, "project": {"id": 1e999}}'),
    ],
)
def test_text_that_is_no_text_is_refused(client: TestClient, path: str, body: str) -> None:
    found = re.search(r'name="page-token" content="([^"]+)"', client.get("/sign-in").text)
    assert found
    headers = {"Content-Type": "application/json", "Origin": HERE, TOKEN_HEADER: found[1]}
    secrets = home_secrets(Path(client.app.state.inbox._folder).parent)  # type: ignore[attr-defined]
    headers["X-Refstar-Secret"] = secrets.webhook_secret
    answer = client.post(path, content=body, headers=headers)
    assert 400 <= answer.status_code < 500


def test_no_answer_carries_a_header_that_a_request_made_up(client: TestClient) -> None:
    for path in (
        "/review/brush/x%0d%0aSet-Cookie:%20a=b",
        "/sign-in?next=/x%0d%0aSet-Cookie:%20a=b",
        "/pairs/%0d%0aSet-Cookie:%20a=b",
    ):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code < 500
        assert "set-cookie" not in answer.headers
        assert not any("\r" in value or "\n" in value for value in answer.headers.values())


def test_a_log_line_cannot_be_made_up_by_a_request(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    made_up = "x\n2026-01-01 CRITICAL all faces deleted"
    with caplog.at_level(logging.DEBUG):
        client.post("/predict", json={"tasks": [{"id": made_up, "data": {"pair": made_up}}]})
        client.get(f"/pairs/{made_up.replace(chr(10), '%0a')}"[:60])
        client.post("/session", json={"name": made_up})
    ours = [one for one in caplog.records if not one.name.startswith(("httpx", "httpcore"))]
    assert not any("\n" in record.getMessage() for record in ours)


def test_wrong_passwords_are_counted_by_address_and_all_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = 0.0
    limit = SignInLimit(lambda: time)

    def wrong(address: str) -> bool | None:
        return limit.check(address, lambda: False)

    def right(address: str) -> bool | None:
        return limit.check(address, lambda: True)

    assert [wrong("10.0.0.1") for _ in range(11)] == [False] * 10 + [None]
    assert right("10.0.0.1") is None  # not even looked at
    assert right("10.0.0.2") is True  # others are not locked out
    assert [wrong(f"2001:db8::{n:x}") for n in range(11)] == [False] * 10 + [None]  # one /64
    assert right("2001:db8:0:1::1") is True
    assert [wrong(f"10.1.0.{n}") for n in range(80)] == [False] * 80
    assert right("10.0.0.2") is None  # a hundred of all addresses
    time = 61.0
    assert right("10.0.0.1") is True
    monkeypatch.setattr(sign_in_limit, "ADDRESSES", 5)
    for turn in range(50):
        time += 61
        wrong(f"10.2.0.{turn}")
    assert len(limit._by_address) < 93 + 50


def labels(tasks: dict[str, int], deleted: list[int]) -> Callable[[str, str], Any]:
    class Studio:
        def __init__(self, *_: str) -> None: ...

        def __enter__(self) -> Studio:
            return self

        def __exit__(self, *_: object) -> None: ...

        def project_made_at(self, project: int) -> datetime | None:
            return datetime(2026, 1, 1, tzinfo=UTC) if project == 7 else None

        def task_ids(self, project: int) -> dict[str, int]:
            return dict(tasks)

        def delete_task(self, task: int) -> None:
            deleted.append(task)
            for key in [key for key, number in tasks.items() if number == task]:
                del tasks[key]

    return Studio


TASKS: list[Task] = [("http://ls", 7, 1, "a-1"), ("http://ls", 7, 2, "a-2"), ("home", 7, 3, "a-3")]


def test_a_removed_persons_tasks_are_deleted_and_nobody_elses(settings: Settings) -> None:
    there = settings.model_copy(update={"label_studio_url": "http://ls"})
    deleted: list[int] = []
    # the server was set up anew: task 1 is another pair's now, and a-2 has another number
    tasks = {"b-1": 1, "a-2": 9}
    gone, problem = remove_tasks(settings.home, there, TASKS, client=labels(tasks, deleted))
    assert (gone, deleted, tasks) == ({"a-1", "a-2"}, [9], {"b-1": 1})
    assert "home" in problem  # task 3 is on another server


def test_a_server_that_is_down_keeps_its_tasks_for_the_next_time(settings: Settings) -> None:
    def down(url: str, token: str) -> LabelStudio:
        raise LabelStudioUnavailable("Label Studio cannot be reached")

    there = settings.model_copy(update={"label_studio_url": "http://ls"})
    assert remove_tasks(settings.home, there, TASKS, client=down) == (
        set(),
        "Label Studio cannot be reached",
    )
    settings.home.mkdir(exist_ok=True)
    gone, problem = remove_tasks(settings.home, settings, TASKS, client=down)
    assert gone == set()
    assert "engine annotate" in problem


def test_webhooks_about_a_removed_person_are_deleted_and_others_stay(tmp_path: Path) -> None:
    refused = tmp_path / "inbox" / "refused"
    refused.mkdir(parents=True)
    bodies = {
        refused / "1.json": '{"project": {"id": 7}, "annotation": {"task": 1}}',
        refused / "2.json": '{"project": {"id": 7}, "annotations": [{"task": 2}]}',
        refused / "3.json": '{"project": {"id": 8}, "annotation": {"task": 1}}',
        refused / "4.json": "no JSON",
        tmp_path / "inbox" / "5.json": '{"task": {"data": {"pair": "a-1"}}}',
    }
    for path, text in bodies.items():
        path.write_text(text)
    assert remove_bodies(tmp_path, TASKS) == 3
    assert sorted(path.name for path in bodies if path.exists()) == ["3.json", "4.json"]

"""The Label Studio client: errors without a server, everything else against the real one."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest

from annotator.connection import LabelStudioError, LabelStudioUnavailable
from annotator.label_studio import (
    SECRET_HEADER,
    LabelStudio,
    PredictionData,
    TaskData,
    image_url,
)
from annotator.project_form import labelling_config
from annotator.results import parse_annotation, proposal_result, review_result
from annotator.server import LabelStudioServer
from dataset_engine.taxonomy import Axis, Conflict

TOKEN = "0123456789abcdef0123456789abcdef01234567"
MASK = np.zeros((64, 64), bool)
MASK[10:50, 12:40] = True
Handler = Callable[[httpx.Request], httpx.Response]
renewing = pytest.mark.filterwarnings(
    "ignore:The `parse_obj` method is deprecated"  # the SDK uses it to renew personal tokens
)


def client(handler: Handler, token: str = TOKEN) -> LabelStudio:
    return LabelStudio("http://studio.test/", token, transport=httpx.MockTransport(handler))


def answering(status: int, **content: Any) -> LabelStudio:
    return client(lambda request: httpx.Response(status, **content))


def failing(error: Exception) -> LabelStudio:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return client(fail)


def test_a_server_that_is_down_is_named_with_the_mend() -> None:
    studio = failing(httpx.ConnectError("Connection refused"))
    with pytest.raises(LabelStudioUnavailable, match=r"http://studio\.test cannot be .*annotate"):
        studio.ensure_project("RefSel-HQ")


def test_a_real_refused_connection_is_unavailable() -> None:
    with (
        LabelStudio("http://127.0.0.1:9", TOKEN) as studio,
        pytest.raises(LabelStudioUnavailable, match=r"127\.0\.0\.1:9 "),
    ):
        studio.task(1)


def test_a_server_that_does_not_answer_in_time_is_unavailable() -> None:
    with pytest.raises(LabelStudioUnavailable, match="did not answer GET /api/tasks/7/ in time"):
        failing(httpx.ReadTimeout("slow")).task(7)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_a_server_is_unavailable(status: int) -> None:
    with pytest.raises(LabelStudioUnavailable, match=str(status)):
        answering(status).task(7)


def test_a_refused_token_says_where_to_get_one_and_does_not_show_it() -> None:
    with pytest.raises(LabelStudioError, match=r"401.*LABEL_STUDIO_API_KEY") as caught:
        answering(401, json={"detail": "Invalid token."}).task(7)
    assert TOKEN not in str(caught.value)


def test_a_refusal_carries_label_studios_reason_in_short() -> None:
    with pytest.raises(LabelStudioError, match=r"PATCH .* 400: .*Model version") as caught:
        answering(400, json={"model_version": ["Model version " + "x" * 5000]}).set_model_version(
            1, "unet-1"
        )
    assert len(str(caught.value)) < 500


def test_a_page_that_is_not_json_is_not_a_label_studio() -> None:
    with pytest.raises(LabelStudioError, match="not JSON"):
        answering(200, html="<html>hello</html>").task(7)


def test_a_legacy_token_is_sent_as_it_is() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, json={"id": 7})

    assert client(answer).task(7) == {"id": 7}
    assert seen == [f"Token {TOKEN}"]


def json_web_token(seconds: float) -> str:
    """A token that expires after so many seconds."""
    parts = ({"alg": "HS256"}, {"exp": int(time.time() + seconds)})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), "c2lnbmF0dXJl"])


@renewing
def test_a_personal_token_is_exchanged_and_renewed() -> None:
    personal = json_web_token(1000)
    answers = [json_web_token(-1), json_web_token(100)]
    issued: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/below/api/token/refresh/":
            assert json.loads(request.content) == {"refresh": personal}
            issued.append(answers[len(issued)])
            return httpx.Response(200, json={"access": issued[-1]})
        assert request.url.path == "/below/api/tasks/7/"
        assert request.headers["Authorization"] == f"Bearer {issued[-1]}"
        return httpx.Response(200, json={"id": 7})

    transport = httpx.MockTransport(answer)
    studio = LabelStudio("http://studio.test/below/", personal, transport=transport)
    for expected in (1, 2, 2):
        studio.task(7)
        assert len(issued) == expected


def test_a_personal_token_that_expired_or_was_revoked_is_refused_and_not_shown() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"detail": "Token is blacklisted"})

    for seconds in (-1, 1000):
        token = json_web_token(seconds)
        with pytest.raises(LabelStudioError, match=r"401.*LABEL_STUDIO_API_KEY") as caught:
            client(refuse, token).task(7)
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [500, 408, 429, httpx.ConnectError("no"), httpx.ReadTimeout("no")]
)
def test_no_request_is_sent_twice(answer: int | Exception) -> None:
    sent: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, json={"detail": "busy"})

    with pytest.raises(LabelStudioError):
        client(fail).submit_annotation(7, [], 1.0)
    assert sent == ["POST"]


def test_a_project_is_found_behind_a_page_of_similar_ones() -> None:
    projects = [{"id": i, "title": f"Faces {i}"} for i in range(40)] + [
        {"id": 40, "title": "Faces"}
    ]
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        if request.method != "GET":
            return httpx.Response(200, json=projects[-1])
        begin = 30 * (int(request.url.params.get("page", "1")) - 1)
        if begin >= len(projects):
            return httpx.Response(404, json={"detail": "Invalid page."})
        page = {"count": len(projects), "results": projects[begin : begin + 30]}
        return httpx.Response(200, json=page)

    assert client(answer).ensure_project("Faces") == 40
    assert sent == ["GET", "GET", "PATCH"]
    sent.clear()
    projects[-1]["title"] = "Faces 40"
    client(answer).ensure_project("Faces")
    assert sent == ["GET", "GET", "POST"]


class Forgetful:
    """Says 201 to every import of predictions, and keeps only what it did not forget."""

    def __init__(self, forget: int) -> None:
        self.forget = forget
        self.kept: dict[int, str] = {}
        self.sent: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = json.loads(request.content)
            self.sent.append(len(body))
            for item in body:
                if self.forget:
                    self.forget -= 1
                else:
                    self.kept[item["task"]] = item["model_version"]
            return httpx.Response(201, json={"created": len(body)})
        included = json.loads(request.url.params["query"])["selectedItems"]["included"]
        tasks = [{"id": i, "predictions_model_versions": self.kept.get(i, "")} for i in included]
        return httpx.Response(200, json={"tasks": tasks})


def proposals(count: int) -> list[PredictionData]:
    return [PredictionData(i, "unet-1", 0.5, []) for i in range(1, count + 1)]


def test_predictions_that_were_lost_are_sent_again() -> None:
    server = Forgetful(forget=4)
    done: list[int] = []
    assert client(server).import_predictions(1, proposals(10), done.append) == 10
    assert server.sent == [10, 4]
    assert len(server.kept) == 10
    assert done == [10]


def test_predictions_that_stay_lost_are_an_error_that_counts_them() -> None:
    with pytest.raises(LabelStudioError, match="3 of 3 predictions are not stored after 3 att"):
        client(Forgetful(forget=99)).import_predictions(1, proposals(3))


def test_stored_predictions_are_not_sent_again() -> None:
    server = Forgetful(forget=0)
    studio = client(server)
    studio.import_predictions(1, proposals(3))
    assert studio.import_predictions(1, proposals(5)) == 2
    assert server.sent == [3, 2]


def test_the_labelling_page_has_the_words_of_the_taxonomy() -> None:
    root = ElementTree.fromstring(labelling_config())  # noqa: S314 - our own file
    for axis in Axis:
        choices = root.findall(f".//Choices[@name='{axis.value}']/Choice")
        assert [c.get("value") for c in choices] == [c.value for c in Conflict if c.axis is axis]
    verdict = root.find(".//Choices[@name='verdict']")
    assert verdict is not None
    assert verdict.get("required") == "true"
    assert [c.get("value") for c in verdict] == ["accept", "reject"]
    brush = root.find(".//BrushLabels")
    assert brush is not None
    assert (brush.get("name"), brush.get("toName"), brush.get("smart")) == ("mask", "ref", "false")
    assert [label.get("value") for label in brush] == ["consistent", "conflict"]


def test_hotkeys_are_distinct_and_not_label_studios_own() -> None:
    root = ElementTree.fromstring(labelling_config())  # noqa: S314 - our own file
    tags = [*root.iter("Choice"), *root.iter("Label")]
    keys = [str(tag.get("hotkey")) for tag in tags]
    assert len(set(keys)) == len(keys) == len(Conflict) + 5
    assert not set(keys) & set("uhvboemkwpr[]")


class Listener(BaseHTTPRequestHandler):
    """An ML backend that knows nothing, and remembers what is posted to its webhook."""

    events: list[tuple[str, str | None]] = []  # noqa: RUF012 - a new class for every test

    def do_GET(self) -> None:
        self._answer({"status": "UP"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/webhook":
            self.events.append((body["action"], self.headers.get(SECRET_HEADER)))
        self._answer({"model_version": "unet-1"})

    def _answer(self, content: dict[str, str]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    events: list[tuple[str, str | None]] = []
    handler = type("OwnListener", (Listener,), {"events": events})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", events
        server.shutdown()
        thread.join()


def tasks(count: int) -> list[TaskData]:
    url = image_url("images/a b.jpg")
    return [TaskData(f"pair-{i}", gt=url, ref=url) for i in range(count)]


@pytest.mark.slow
def test_preparing_a_project_twice_makes_one_of_each(
    label_studio: LabelStudio,
    label_studio_server: LabelStudioServer,
    listener: tuple[str, list[tuple[str, str | None]]],
) -> None:
    url, events = listener
    images = label_studio_server.document_root / "aligned"

    def prepare(secret: str) -> tuple[int, int, int, int]:
        project = label_studio.ensure_project("Prepared twice")
        storage = label_studio.ensure_storage(project, images)
        backend = label_studio.ensure_backend(project, url)
        return (
            project,
            storage,
            backend,
            label_studio.ensure_webhook(project, f"{url}/webhook", secret),
        )

    first = prepare("old")
    assert prepare("new") == first
    other = label_studio.ensure_project("Prepared")
    assert other != first[0]
    (task,) = label_studio.import_tasks(first[0], tasks(1))
    stored = label_studio.submit_annotation(task, review_result(MASK, frozenset(), "accept"), 2.5)
    label_studio._sdk.annotations.delete(stored["id"])
    assert events == [("ANNOTATION_CREATED", "new"), ("ANNOTATIONS_DELETED", "new")]


@pytest.mark.slow
def test_a_webhook_follows_the_service_to_a_new_address(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("Moving service")
    first = label_studio.ensure_webhook(project, "http://127.0.0.1:9091/webhook", "s")
    assert label_studio.ensure_webhook(project, "http://127.0.0.1:9092/webhook", "s") == first
    hooks = label_studio._sdk.webhooks.list(project=str(project))
    assert [hook.url for hook in hooks] == ["http://127.0.0.1:9092/webhook"]


@pytest.mark.slow
def test_a_backend_that_is_down_is_a_clear_error(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("No backend")
    with pytest.raises(LabelStudioError, match="health check failed"):
        label_studio.ensure_backend(project, "http://127.0.0.1:9")


@pytest.mark.slow
def test_pairs_become_tasks_once_and_in_order(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("Tasks once")
    some = label_studio.import_tasks(project, tasks(300)[100:150])
    done: list[int] = []
    everything = label_studio.import_tasks(project, tasks(300)[::-1], done.append)
    assert sum(done) == 300
    assert everything[::-1][100:150] == some
    assert len(set(everything)) == 300
    assert label_studio.import_tasks(project, tasks(300)) == everything[::-1]
    assert label_studio.task_ids(project)["pair-7"] == everything[::-1][7]
    assert label_studio.task(some[0])["data"]["ref"] == "/data/local-files/?d=images/a%20b.jpg"


@pytest.mark.slow
def test_no_prediction_is_lost_while_annotators_write(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("Busy")
    ids = label_studio.import_tasks(project, tasks(300))
    annotated = ids[:24]
    result = review_result(MASK, frozenset({Conflict.EYES}), "accept")

    def annotate(task: int) -> int:
        return int(label_studio.submit_annotation(task, result, 1.0)["id"])

    with ThreadPoolExecutor(4) as annotators:
        submissions = [annotators.submit(annotate, task) for task in annotated]
        predictions = [PredictionData(i, "unet-1", 0.5, proposal_result(MASK, 0.5)) for i in ids]
        assert label_studio.import_predictions(project, predictions) == 300
        assert len({submission.result() for submission in submissions}) == 24
    assert label_studio.import_predictions(project, predictions) == 0
    label_studio.set_model_version(project, "unet-1")
    stored = list(label_studio.annotations(project))
    assert sorted(annotation["task"] for annotation in stored) == annotated
    assert all(np.array_equal(parse_annotation(a, MASK).mask, MASK) for a in stored)
    (prediction,) = label_studio.task(ids[-1])["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("unet-1", 0.5)


@pytest.mark.slow
def test_a_version_without_predictions_cannot_be_shown(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("No version")
    with pytest.raises(LabelStudioError, match="400"):
        label_studio.set_model_version(project, "unet-99")


@pytest.mark.slow
def test_only_what_changed_is_asked_for(label_studio: LabelStudio) -> None:
    project = label_studio.ensure_project("Changes")
    ids = label_studio.import_tasks(project, tasks(6))
    accepted = review_result(MASK, frozenset(), "accept")
    old = [label_studio.submit_annotation(task, accepted, 1.0) for task in ids[:3]]
    time.sleep(6)
    moment = datetime.now(UTC)
    assert list(label_studio.changed_tasks(project, moment)) == []

    label_studio._sdk.annotations.update(
        old[0]["id"], result=review_result(MASK, frozenset({Conflict.BEARD}), "accept")
    )
    label_studio._sdk.annotations.delete(old[1]["id"])
    new = label_studio.submit_annotation(ids[5], accepted, 4.0, None)
    changed = {
        task["id"]: task["annotations"] for task in label_studio.changed_tasks(project, moment)
    }
    assert set(changed) == {ids[0], ids[1], ids[5]}
    assert changed[ids[1]] == []
    assert parse_annotation(changed[ids[0]][0], MASK).conflicts == {Conflict.BEARD}
    (newest,) = changed[ids[5]]
    assert newest["id"] == new["id"]
    assert newest["lead_time"] == 4.0
    assert newest["was_cancelled"] is False
    assert datetime.fromisoformat(newest["updated_at"]) > moment
    assert len(list(label_studio.annotations(project))) == 3
    one, other = label_studio.changed_tasks(project, only=[ids[5], ids[1]])
    assert ([one["id"], other["id"]], other["annotations"]) == ([ids[1], ids[5]], [newest])


@pytest.mark.slow
def test_a_wrong_token_is_refused_by_the_real_server(
    label_studio_server: LabelStudioServer,
) -> None:
    with (
        LabelStudio(label_studio_server.url, "f" * 40) as stranger,
        pytest.raises(LabelStudioError, match="401"),
    ):
        stranger.ensure_project("Strangers")


@renewing
@pytest.mark.slow
def test_a_personal_token_works_with_the_real_server(
    label_studio: LabelStudio, label_studio_server: LabelStudioServer
) -> None:
    personal = label_studio._sdk.tokens.create().token
    project = label_studio.ensure_project("Personal token")
    with LabelStudio(label_studio_server.url, personal) as studio:
        assert studio.ensure_project("Personal token") == project

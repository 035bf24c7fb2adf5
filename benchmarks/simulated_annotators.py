"""People at work, as the service sees them: requests by plain HTTP, and a note of all that was answered.

Each annotator opens a task, clicks on it, submits it, changes or deletes some of it later, and decides
pairs on the review pages. Label Studio posts a webhook once; the review pages send a click until it
is answered, and so do these.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import numpy as np

from annotator.label_studio import SECRET_HEADER
from annotator.results import review_result
from dataset_engine.taxonomy import Conflict

ENOUGH = 20.0
"""Seconds after which a request counts as failed."""
START = datetime(2026, 6, 1, tzinfo=UTC)
_Y, _X = np.mgrid[:512, :512]
FACE = ((_X - 256) / 150) ** 2 + ((_Y - 270) / 180) ** 2 < 1


@dataclass(frozen=True)
class Sent:
    """An annotation as it was submitted: its mask is that of `painted` with this number."""

    annotation: int
    task: int
    updated_at: datetime
    number: int
    accepted: bool
    conflict: Conflict


@dataclass
class Notes:
    """What one annotator sent and was answered.

    Attributes:
        seconds: how long each kind of request took.
        errors: answers that should not be, and requests without one while the service was up.
        submitted: annotations whose webhook was acknowledged.
        lost: annotations whose webhook nobody acknowledged; Label Studio does not send it again.
        deleted: annotations whose deletion was acknowledged.
        maybe_deleted: annotations whose deletion was sent, acknowledged or not.
        clicks: review clicks that were answered, with the pair and what was decided.
        undone: review clicks that were taken back, and the click that did it.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    submitted: list[Sent] = field(default_factory=list)
    lost: list[Sent] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    maybe_deleted: set[int] = field(default_factory=set)
    clicks: dict[str, tuple[str, str]] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """The service, and what a person may do there.

    Attributes:
        port: on loopback.
        secret: of the webhook.
        cookie: of a signed-in reviewer.
        page_token: of that reviewer's pages.
        project: Label Studio's project number.
        may_be_down: whether the service is killed meanwhile, so that no answer is no error.
    """

    port: int
    secret: str
    cookie: str
    page_token: str
    project: int
    may_be_down: bool = False


def painted(number: int) -> np.ndarray:
    """A mask like no other's: an ellipse with a hole."""
    face = FACE.copy()
    top, left = 130 + number % 97, 150 + number % 89
    face[top : top + 20 + number % 41, left : left + 30 + number % 53] = False
    return face


class Annotator(Thread):
    """One person.

    Args:
        site: the service.
        tasks: this person's tasks, as Label Studio posts them.
        number: seeds what the person does, and keeps annotation ids apart.
        think: mean seconds between two requests.
        over: set when work ends.
    """

    def __init__(
        self,
        site: Site,
        tasks: list[dict[str, Any]],
        number: int,
        think: float,
        over: Event,
    ) -> None:
        super().__init__(name=f"annotator {number}", daemon=True)
        self.notes = Notes()
        self._site, self._tasks, self._number = site, tasks, number
        self._think, self._over = think, over
        self._random = random.Random(number)  # noqa: S311 - not a secret
        self._connection: http.client.HTTPConnection | None = None
        self._count = 0

    def run(self) -> None:
        """Work until it is over."""
        self._over.wait(self._random.random() * self._think)
        turn = 0
        try:
            while not self._over.is_set():
                self._take_turn(self._tasks[turn % len(self._tasks)])
                turn += 1
        except Stopped:
            pass
        except Exception as error:  # a fault here would look like fewer requests
            self.notes.errors.append(f"the annotator itself failed: {error!r}")
        finally:
            if self._connection is not None:
                self._connection.close()

    def _take_turn(self, task: dict[str, Any]) -> None:
        self._predict("predict", task, None)
        clicks: list[dict[str, Any]] = []
        for _ in range(2):
            clicks.append(self._click())
            self._predict("click", task, {"result": list(clicks)})
        sent = self._submit(task, "ANNOTATION_CREATED", self._annotation_id())
        fate = self._random.random()
        if sent is not None and fate < 0.2:
            self._submit(task, "ANNOTATION_UPDATED", sent.annotation)
        elif sent is not None and fate < 0.3:
            self._take_back(sent.annotation)
        self._review()

    def _predict(self, kind: str, task: dict[str, Any], context: dict[str, Any] | None) -> None:
        body = {
            "tasks": [task],
            "project": f"{self._site.project}.1",
            "params": {"login": None, "password": None, "context": context},
        }
        answer = self._ask(kind, "POST", "/predict", body, {})
        if answer is not None and len(answer["results"]) != 1:
            self.notes.errors.append(f"{kind}: {len(answer['results'])} results for one task")

    def _click(self) -> dict[str, Any]:
        return {
            "original_width": 512,
            "original_height": 512,
            "image_rotation": 0,
            "value": {
                "x": self._random.uniform(30, 70),
                "y": self._random.uniform(35, 80),
                "width": 0.9,
                "labels": ["conflict"],
                "keypointlabels": ["conflict"],
            },
            "is_positive": True,
            "id": f"click-{self._random.getrandbits(32):x}",
            "from_name": "click",
            "to_name": "ref",
            "type": "keypointlabels",
            "origin": "manual",
        }

    def _annotation_id(self) -> int:
        self._count += 1
        return 1 + self._number * 100_000 + self._count

    def _submit(self, task: dict[str, Any], action: str, annotation: int) -> Sent | None:
        self._count += 1
        number = self._number * 100_000 + self._count
        conflict = self._random.choice(list(Conflict))
        accepted = self._random.random() < 0.9
        at = START + timedelta(seconds=number, microseconds=1)
        sent = Sent(annotation, task["id"], at, number, accepted, conflict)
        verdict = "accept" if accepted else "reject"
        result = review_result(painted(number), frozenset({conflict}), verdict)
        body = {
            "action": action,
            "project": {"id": self._site.project},
            "annotation": {
                "id": annotation,
                "task": task["id"],
                "completed_by": self._number,
                "was_cancelled": False,
                "lead_time": 3.5,
                "updated_at": at.isoformat(),
                "result": result,
            },
            "task": task,
        }
        answer = self._ask("webhook", "POST", "/webhook", body, self._hook())
        (self.notes.lost if answer is None else self.notes.submitted).append(sent)
        return None if answer is None else sent

    def _take_back(self, annotation: int) -> None:
        body = {
            "action": "ANNOTATIONS_DELETED",
            "project": {"id": self._site.project},
            "annotations": [{"id": annotation}],
        }
        self.notes.maybe_deleted.add(annotation)
        if self._ask("webhook", "POST", "/webhook", body, self._hook()) is not None:
            self.notes.deleted.add(annotation)

    def _review(self) -> None:
        offset = f"{self._random.uniform(0.4, 0.6)!r}:{self._random.randrange(10_000)}"
        answer = self._ask("page", "GET", f"/review/cards?after={offset}", None, self._page())
        if answer is None or not answer["cards"]:
            return
        for card in self._random.sample(answer["cards"], 2):
            path = f"/pictures/{card['key']}/card/{card['mask']}.jpg"
            self._ask("picture", "GET", path, None, self._page())
            click = {
                "click": f"{self._number:04d}-{self._random.getrandbits(64):016x}",
                "act": self._random.choice(["accept", "accept", "reject"]),
                "pair": card["key"],
                "mask": card["mask"],
                "conflicts": [],
                "age": 0.1,
                "seconds": 2.0,
            }
            if self._decide(click):
                self.notes.clicks[click["click"]] = (card["key"], click["act"])
                if self._random.random() < 0.1:
                    undo = {
                        "click": f"{self._number:04d}-{self._random.getrandbits(64):016x}",
                        "act": "undo",
                        "pair": card["key"],
                        "undone": click["click"],
                        "age": 0.0,
                    }
                    if self._decide(undo):
                        self.notes.undone[click["click"]] = undo["click"]

    def _decide(self, click: dict[str, Any]) -> bool:
        """Send a click until it is answered, as the pages do."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self._ask(
                "decision",
                "POST",
                "/review/decisions",
                {"clicks": [click]},
                self._page(),
                finish=True,
            )
            if answer is not None:
                (result,) = answer["results"]
                if "refused" in result:
                    self.notes.errors.append(f"decision: {result['refused']}")
                return "refused" not in result
            time.sleep(0.2)
        self.notes.errors.append("decision: no answer within a minute")
        return False

    def _hook(self) -> dict[str, str]:
        return {SECRET_HEADER: self._site.secret}

    def _page(self) -> dict[str, str]:
        return {
            "Cookie": f"refstar_review={self._site.cookie}",
            "Origin": f"http://127.0.0.1:{self._site.port}",
            "X-Refstar-Page": self._site.page_token,
        }

    def _ask(
        self,
        kind: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
        *,
        finish: bool = False,
    ) -> Any:  # noqa: ANN401 - JSON
        """The answer, None where there was none; a request that began is always waited for."""
        if not finish and self._over.wait(self._random.uniform(0.5, 1.5) * self._think):
            raise Stopped
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers = headers | {"Content-Type": "application/json"}
        began = time.perf_counter()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self._site.port, timeout=ENOUGH
                )
            self._connection.request(method, path, data, headers)
            with self._connection.getresponse() as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            if not self._site.may_be_down:
                self.notes.errors.append(f"{kind}: {error!r}")
            return None
        self.notes.seconds[kind].append(time.perf_counter() - began)
        if response.status >= 300:
            self.notes.errors.append(f"{kind}: {response.status} {content[:300].decode()}")
            return None
        return json.loads(content) if "json" in response.headers["Content-Type"] else content


class Stopped(Exception):  # noqa: N818 - work is over, which is no error
    """It is time to go."""

"""The service under load: 50 annotators and reviewers at once, killed and started again if you like.

    python benchmarks/load.py [--seconds 120] [--annotators 50] [--kills 0] [--pairs 12000]

Starts `engine serve` on a store of its own (SQLite) with that many pairs, and people in this process:
each opens tasks, clicks on them, submits, changes and deletes annotations by webhook, and decides on the
review pages. Afterwards everything that was answered is compared with what is stored: nothing of it may
be missing, and nothing may be there that was not sent, or be there twice. With ``--kills`` the service
is killed (SIGKILL) and started again that many times meanwhile; then only the comparison counts.

Ends with status 1 if something is lost, doubled or answered with an error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Self

import numpy as np
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parent))
from large_store import PROJECT, fill_with_pictures, task_of
from simulated_annotators import Annotator, Notes, Sent, Site, painted

from annotator.review.address import review_signer
from annotator.secrets import home_secrets
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PAGE
from dataset_engine.store.reviews import EventKind, Source, rebuild
from dataset_engine.store.tables import Event as StoredEvent
from dataset_engine.store.tables import Pair, now
from dataset_engine.taxonomy import Status

GOAL_MS = 300.0
START_SECONDS = 300.0


class Service:
    """`engine serve` as a process of its own, on one port for as long as this object lives."""

    def __init__(self, home: Path) -> None:
        self._home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "dataset_engine.cli", "--home", str(self._home)]
        command += ["serve", "--port", str(self.port), "--sync-every", "0"]
        with (self._home / "service.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self._home / "service.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"the service did not start; the end of its log:\n{tail}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, whatever it is at."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        notes: what each person sent and was answered.
        kills: how often the service was killed.
        seconds: how long people worked.
        drained: seconds until the inbox was empty after the last of them had gone.
        missing: what was acknowledged and is not stored, or is stored differently.
        surplus: what is stored and was not sent, or is stored twice.
        stored: events that the run left.
    """

    notes: list[Notes]
    kills: int = 0
    seconds: float = 0.0
    drained: float = 0.0
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    stored: int = 0

    @property
    def errors(self) -> list[str]:
        """All that went wrong for anybody."""
        return [error for one in self.notes for error in one.errors]

    def times(self) -> dict[str, list[float]]:
        """Milliseconds by kind of request, and of all together."""
        kinds: dict[str, list[float]] = {}
        for one in self.notes:
            for kind, seconds in one.seconds.items():
                kinds.setdefault(kind, []).extend(value * 1e3 for value in seconds)
        return kinds | {"all": [value for values in kinds.values() for value in values]}


@contextmanager
def working(site: Site, store: Store, annotators: int, think: float) -> Iterator[list[Annotator]]:
    """People at work, each on tasks of their own; at the end each finishes the request in hand."""
    with store.reading() as session:
        tasks = [task_of(store, pair) for pair in session.scalars(select(Pair).order_by(Pair.id))]
    over = Event()
    people = [
        Annotator(site, tasks[number::annotators], number + 1, think, over)
        for number in range(annotators)
    ]
    for person in people:
        person.start()
    try:
        yield people
    finally:
        over.set()
        for person in people:
            person.join()


def run(home: Path, *, seconds: float, annotators: int, think: float, kills: int) -> Outcome:
    """Let people work on the store of this home for so long, and look at what is stored then."""
    secrets = home_secrets(home)
    signer = review_signer(secrets)
    cookie = signer.session("Load", now())
    with Store(Settings(home=home)) as store:
        with store.reading() as session:
            before = session.scalar(select(StoredEvent.id).order_by(StoredEvent.id.desc())) or 0
        service = Service(home)
        page_token = signer.page_token(cookie)
        site = Site(
            service.port, secrets.webhook_secret, cookie, page_token, PROJECT, may_be_down=kills > 0
        )
        with service:
            outcome = _work(
                service,
                store,
                site,
                seconds=seconds,
                annotators=annotators,
                think=think,
                kills=kills,
            )
            ended = time.monotonic()
            while list((home / "inbox").glob("[0-9]*.json")) and time.monotonic() < ended + 60:
                time.sleep(0.02)
            outcome.drained = time.monotonic() - ended
        compare(store, outcome, before)
    return outcome


def _work(
    service: Service,
    store: Store,
    site: Site,
    *,
    seconds: float,
    annotators: int,
    think: float,
    kills: int,
) -> Outcome:
    began = time.monotonic()
    chance = random.Random(0)  # noqa: S311 - not a secret
    killed = 0
    with working(site, store, annotators, think) as people:
        while time.monotonic() < began + seconds or killed < kills:
            if killed == kills:
                time.sleep(0.2)
                continue
            time.sleep(chance.uniform(0.1, 2.0))
            service.kill()
            service.start()
            killed += 1
    return Outcome([one.notes for one in people], killed, time.monotonic() - began)


def compare(store: Store, outcome: Outcome, before: int) -> None:
    """What was acknowledged and what is stored, one by one."""
    with store.reading() as session:
        events = list(session.scalars(select(StoredEvent).where(StoredEvent.id > before)))
        pairs = {pair.id: pair for pair in session.scalars(select(Pair))}
        regions = {pair_id: pair.ref.region_sha256 for pair_id, pair in pairs.items()}
    outcome.stored = len(events)
    hooks = [event for event in events if event.source == Source.WEBHOOK]
    submissions = {
        (event.annotation, event.annotation_updated_at): event
        for event in hooks
        if event.kind == EventKind.SUBMITTED
    }
    deletions = Counter(event.annotation for event in hooks if event.kind == EventKind.DELETED)
    pages = {event.key.removeprefix("page:"): event for event in events if event.source == PAGE}

    def same(sent: Sent) -> bool:
        event = submissions.get((sent.annotation, sent.updated_at))
        return (
            event is not None
            and event.pair_id == sent.task
            and (event.status != Status.REJECTED) == sent.accepted
            and event.conflicts == {sent.conflict}
            and np.array_equal(
                store.mask(str(event.mask_after)),
                painted(sent.number) & store.mask(regions[sent.task]),
            )
        )

    def decided(click: str, pair: str, act: str) -> bool:
        event = pages.get(click)
        return (
            event is not None
            and pairs[event.pair_id].key == pair
            and (event.status == Status.REJECTED) == (act == "reject")
        )

    for one in outcome.notes:
        outcome.missing += [f"annotation {s.annotation}" for s in one.submitted if not same(s)]
        outcome.missing += [f"deletion of {number}" for number in one.deleted - set(deletions)]
        outcome.missing += [
            f"click {click}" for click, what in one.clicks.items() if not decided(click, *what)
        ]
        outcome.missing += [f"undo {click}" for click in one.undone.values() if click not in pages]
    sent = {(s.annotation, s.updated_at) for n in outcome.notes for s in (*n.submitted, *n.lost)}
    maybe = {number for one in outcome.notes for number in one.maybe_deleted}
    outcome.surplus += [f"annotation {number}" for number, _ in set(submissions) - sent]
    outcome.surplus += [
        f"deletion of {number}" for number, n in deletions.items() if n > 1 or number not in maybe
    ]
    if len(submissions) + deletions.total() + len(pages) != len(events):
        outcome.surplus.append("some annotation or click is there twice")
    if changed := rebuild(store, {event.pair_id for event in events}):
        outcome.surplus.append(f"{changed} pairs are not in the state that their events give")


def show(outcome: Outcome, annotators: int) -> bool:
    """Print what was found; whether all of it is as it should be."""
    requests = len(outcome.times()["all"])
    print(
        f"{annotators} annotators, {outcome.seconds:.0f} s, {outcome.kills} kills: {requests:,} requests"
        f" ({requests / outcome.seconds:.0f} a second), load average {os.getloadavg()[0]:.1f} on"
        f" {os.cpu_count()} cores"
    )
    print(f"{'request':10} {'count':>7} {'median':>8} {'95 %':>8} {'most':>8}  ms")
    for kind, times in outcome.times().items():
        tail = float(np.quantile(times, 0.95))
        print(
            f"{kind:10} {len(times):7,} {statistics.median(times):8.1f} {tail:8.1f} {max(times):8.1f}"
        )
    submitted = sum(len(one.submitted) for one in outcome.notes)
    clicks = sum(len(one.clicks) + len(one.undone) for one in outcome.notes)
    result = {
        "webhooks acknowledged": submitted + sum(len(one.deleted) for one in outcome.notes),
        "page decisions acknowledged": clicks,
        "events stored": outcome.stored,
        "inbox empty after, s": round(outcome.drained, 2),
        "errors": len(outcome.errors),
        "lost or different": len(outcome.missing),
        "doubled or never sent": len(outcome.surplus),
        f"95 % under {GOAL_MS:.0f} ms": bool(np.quantile(outcome.times()["all"], 0.95) < GOAL_MS),
    }
    print(json.dumps(result, indent=2))
    for trouble in (*outcome.errors[:5], *outcome.missing[:5], *outcome.surplus[:5]):
        print("  ", trouble)
    return not (outcome.errors or outcome.missing or outcome.surplus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between requests")
    parser.add_argument("--kills", type=int, default=0, help="how often the service is killed")
    parser.add_argument("--pairs", type=int, default=12_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with Store(Settings(home=home)) as store:
            fill_with_pictures(store, options.pairs)
        outcome = run(
            home,
            seconds=options.seconds,
            annotators=options.annotators,
            think=options.think,
            kills=options.kills,
        )
    if not show(outcome, options.annotators):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

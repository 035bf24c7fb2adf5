"""The service syncs by itself, cheaply, and tells Label Studio what was decided on the pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from annotator.connection import LabelStudioUnavailable
from annotator.label_studio import LabelStudio, TaskData
from annotator.locks import LockHeldError
from annotator.results import review_result
from annotator.sending import send_proposals
from annotator.server import LabelStudioServer
from annotator.sync import MassDeletionError, SyncReport, sync_lock
from annotator.sync_timer import Poller, SyncTimer
from annotator.workplace import connect
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PageReview, record_page_review, take_back
from dataset_engine.store.proposals import FACE_REGION, propose_face_region
from dataset_engine.store.queries import undecided
from dataset_engine.store.tables import (
    AnnotationProject,
    AnnotationTask,
    Image,
    Pair,
    PairState,
    now,
)
from dataset_engine.taxonomy import Status


@dataclass
class Team:
    """Six pairs on a real Label Studio, and the poller of their home."""

    store: Store
    studio: LabelStudio
    project: int
    poller: Poller

    def task(self, pair_id: int) -> int:
        with self.store.reading() as session:
            return session.query(AnnotationTask).filter_by(pair_id=pair_id).one().task

    def annotate(self, pair_id: int, verdict: Any = "accept") -> int:
        mask = self.mask(pair_id)
        mask[:230] = False
        done = self.studio.submit_annotation(
            self.task(pair_id), review_result(mask, frozenset(), verdict), 2.0
        )
        return int(done["id"])

    def mask(self, pair_id: int) -> Any:
        with self.store.reading() as session:
            image = session.get_one(Image, session.get_one(Pair, pair_id).ref_id)
        return self.store.mask(image.region_sha256)

    def poll(self) -> SyncReport:
        report = self.poller.poll()
        assert report is not None
        return report

    def status(self, pair_id: int) -> str:
        with self.store.reading() as session:
            return session.get_one(PairState, pair_id).status

    def offered(self) -> set[int]:
        """Pairs that the labelling stream would still hand out."""
        there = self.studio.changed_tasks(self.project)
        open_tasks = {task["id"] for task in there if not task["is_labeled"]}
        return {pair_id for pair_id in range(1, 7) if self.task(pair_id) in open_tasks}


@pytest.fixture
def team(
    store: Store,
    settings: Settings,
    fill: Callable[..., None],
    label_studio: LabelStudio,
    label_studio_server: LabelStudioServer,
    request: pytest.FixtureRequest,
) -> Iterator[Team]:
    fill(identities=3)
    here = settings.model_copy(
        update={
            "label_studio_url": label_studio_server.url,
            "label_studio_token": label_studio_server.credentials.token,
            "label_studio_project": f"Polled by {request.node.name}"[:50],
        }
    )
    here = Settings(**{name: getattr(here, name) for name in type(here).model_fields})
    propose_face_region(store, list(undecided(store)))
    with connect(store, here) as workplace:
        send_proposals(store, workplace, FACE_REGION)
        yield Team(store, label_studio, workplace.project, Poller(store, here))


@pytest.mark.slow
def test_polls_bring_creations_updates_deletions_and_skips(team: Team) -> None:
    first = team.annotate(1)
    assert (team.poll().recorded, team.status(1)) == (1, Status.ADJUSTED)
    assert team.poll().recorded == 0

    team.annotate(2, "reject")
    mask = team.mask(1)
    team.studio._sdk.annotations.update(
        first, result=list(review_result(mask, frozenset(), "accept")), was_cancelled=False
    )
    skipped = team.studio._sdk.annotations.create(team.task(3), result=[], was_cancelled=True)
    report = team.poll()
    assert (report.recorded, report.deleted) == (3, 0)
    assert [team.status(n) for n in (1, 2, 3)] == ["accepted", "rejected", "proposed"]

    team.studio._sdk.annotations.delete(first)
    team.studio._sdk.annotations.delete(skipped.id)
    report = team.poll()
    assert (report.recorded, report.deleted) == (0, 2)
    assert team.status(1) == Status.PROPOSED

    team.studio._sdk.tasks.delete(str(team.task(2)))
    report = team.poll()
    assert report.restored is not None
    assert (report.restored.tasks, report.restored.answers) == (1, 1)
    assert team.status(2) == Status.REJECTED
    assert team.poll().recorded == 0


@pytest.mark.slow
def test_what_is_decided_on_the_pages_is_offered_no_more(team: Team) -> None:
    team.annotate(6)
    team.poll()
    assert team.offered() == {1, 2, 3, 4, 5}
    for pair_id in (1, 2):
        decide(team.store, pair_id)
    team.poll()
    assert team.offered() == {3, 4, 5}
    # later imports, which count Label Studio's tasks anew, leave the marks alone
    team.studio.import_tasks(team.project, [TaskData("another", gt="x", ref="x")])
    assert team.offered() == {3, 4, 5}
    take_back(team.store, "undo-0001", "click-0001", "review:Anna")
    team.poll()
    assert team.offered() == {1, 3, 4, 5}
    # a service that was started anew finds the marks of the one before it
    team.poller = Poller(team.store, team.poller._settings)
    take_back(team.store, "undo-0002", "click-0002", "review:Anna")
    team.poll()
    assert team.offered() == {1, 2, 3, 4, 5}
    # nothing was annotated by it, and nothing was lost
    assert team.studio.task(team.task(2))["predictions"]
    assert not team.studio.task(team.task(2))["annotations"]


def decide(store: Store, pair_id: int) -> None:
    with store.reading() as session:
        pair, state = session.get_one(Pair, pair_id), session.get_one(PairState, pair_id)
    record_page_review(
        store,
        PageReview(
            click=f"click-{pair_id:04d}",
            pair=pair.key,
            accepted=True,
            mask_sha256=state.mask_sha256,
            actor="review:Anna",
            made_at=now(),
        ),
    )


def test_a_home_that_never_sent_anything_asks_nobody(store: Store, settings: Settings) -> None:
    assert Poller(store, settings).poll() is None


def test_one_sync_at_a_time(store: Store, settings: Settings) -> None:
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=1))
    with sync_lock(store.home), pytest.raises(LockHeldError, match="another sync"):
        Poller(store, settings).poll()


@pytest.mark.parametrize(
    "error", [LabelStudioUnavailable("down"), MassDeletionError("14 of 16"), ValueError("odd")]
)
def test_the_timer_goes_on_whatever_a_poll_meets(
    store: Store,
    settings: Settings,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    polls: list[int] = []

    def poll(_: Poller) -> SyncReport:
        polls.append(1)
        if len(polls) < 3:
            raise error
        return SyncReport(recorded=2)

    monkeypatch.setattr(Poller, "poll", poll)
    caplog.set_level("INFO")
    with SyncTimer(store, settings.model_copy(update={"sync_every": 0.01})):
        deadline = time.monotonic() + 10
        while len(polls) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "2 annotations were new" in caplog.text
    assert caplog.text.count(f"sync: {error}") == (0 if isinstance(error, ValueError) else 1)


def test_no_interval_means_no_sync(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Poller, "poll", lambda _: pytest.fail("it polled"))
    with SyncTimer(store, settings.model_copy(update={"sync_every": 0.0})) as timer:
        assert not timer._thread.is_alive()

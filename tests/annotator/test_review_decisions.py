"""Reviews made on the pages: applied once, undone by a further event, beside Label Studio's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from annotator.results import review_result
from annotator.review.application import add_review_pages
from annotator.secrets import home_secrets
from annotator.sync import sync
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import (
    PageReview,
    PageReviewError,
    record_page_review,
    take_back,
)
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.reviews import rebuild
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Event, Pair, PairState
from dataset_engine.taxonomy import Conflict, Status

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASK = 40


@pytest.fixture
def key(store: Store, fill: Callable[..., None]) -> str:
    """A pair with a proposal, sent as task 40 of a project."""
    fill(identities=2)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=5))
        session.flush()
        session.add(AnnotationTask(project_id=1, task=TASK, pair_id=1))
        pair = session.get_one(Pair, 1)
        name, region = pair.key, pair.ref.region_sha256
    add_proposals(store, "unet-r1", 1, [NewProposal(1, masked(store.mask(region), 60), 0.5)])
    return name


def masked(region: Any, rows: int) -> Any:
    mask = region.copy()
    mask[: 250 + rows] = False
    return mask


def state(store: Store) -> PairState:
    with store.reading() as session:
        return session.get_one(PairState, 1)


def events(store: Store) -> list[Event]:
    with store.reading() as session:
        return list(session.scalars(select(Event).order_by(Event.id)))


def review(key: str, mask: str | None, click: str = "click-0001", **changed: Any) -> PageReview:
    fields: dict[str, Any] = {
        "click": click,
        "pair": key,
        "accepted": True,
        "mask_sha256": mask,
        "actor": "review:Anna",
        "made_at": NOON,
    }
    return PageReview(**fields | changed)


def annotation(
    store: Store, at: datetime, verdict: str = "accept", rows: int = 20
) -> dict[str, Any]:
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
    mask = masked(region, rows)
    return {
        "id": 1,
        "task": TASK,
        "completed_by": 3,
        "was_cancelled": False,
        "updated_at": at.isoformat(),
        "result": review_result(mask, frozenset({Conflict.EYES}), verdict),  # type: ignore[arg-type]
    }


def test_accepting_a_proposal_records_who_when_and_what(store: Store, key: str) -> None:
    proposed = state(store).mask_sha256
    outcome = record_page_review(
        store, review(key, proposed, conflicts=frozenset({Conflict.BEARD}), seconds=2.5)
    )
    assert (outcome.new, outcome.status) == (True, Status.ACCEPTED)
    assert (state(store).status, state(store).mask_sha256) == (Status.ACCEPTED, proposed)
    assert state(store).conflicts == {Conflict.BEARD}
    (event,) = events(store)
    assert (event.actor, event.source, event.annotation_updated_at) == ("review:Anna", "page", NOON)
    assert (event.model_version, event.lead_time) == ("unet-r1", 2.5)


def test_a_click_that_is_sent_again_counts_once(store: Store, key: str) -> None:
    first = review(key, state(store).mask_sha256)
    assert record_page_review(store, first).new
    again = record_page_review(store, first)
    assert (again.new, again.status) == (False, Status.ACCEPTED)
    assert len(events(store)) == 1
    with pytest.raises(PageReviewError, match="recorded for something else"):
        take_back(store, first.click, first.click, "review:Anna")


def test_undo_appends_an_event_and_restores_what_was(store: Store, key: str) -> None:
    before = state(store)
    record_page_review(store, review(key, before.mask_sha256, accepted=False))
    assert state(store).status == Status.REJECTED
    outcome = take_back(store, "click-0002", "click-0001", "review:Anna")
    assert outcome.new
    after = state(store)
    assert (after.status, after.mask_sha256) == (Status.PROPOSED, before.mask_sha256)
    assert [event.kind for event in events(store)] == ["submitted", "deleted"]
    assert not take_back(store, "click-0002", "click-0001", "review:Anna").new
    assert len(events(store)) == 2


def test_undoing_the_second_of_two_reviews_restores_the_first(store: Store, key: str) -> None:
    mask = state(store).mask_sha256
    record_page_review(store, review(key, mask))
    second = review(key, mask, "click-0002", accepted=False, made_at=NOON + HOUR)
    record_page_review(store, second)
    take_back(store, "click-0003", "click-0002", "review:Anna")
    assert state(store).status == Status.ACCEPTED


def test_undo_of_what_was_never_recorded_is_refused(store: Store, key: str) -> None:
    with pytest.raises(PageReviewError, match="not known"):
        take_back(store, "click-0002", "click-0001", "review:Anna")
    assert key
    assert not events(store)


def test_only_a_mask_that_the_pair_has_had_is_accepted(store: Store, key: str) -> None:
    for mask in ("0" * 64, None):
        with pytest.raises(PageReviewError, match="has never had"):
            record_page_review(store, review(key, mask))
    with pytest.raises(PageReviewError, match="no pair"):
        record_page_review(store, review("nobody", state(store).mask_sha256))
    assert not events(store)


def test_a_sync_does_not_undo_a_later_review(store: Store, key: str) -> None:
    older = annotation(store, NOON - HOUR)
    sync(store, 1, [older])
    assert state(store).status == Status.ADJUSTED
    record_page_review(store, review(key, state(store).mask_sha256, accepted=False))
    for _ in range(2):
        sync(store, 1, [older])
        assert state(store).status == Status.REJECTED


def test_an_older_annotation_that_arrives_late_does_not_count(store: Store, key: str) -> None:
    proposed = state(store).mask_sha256
    record_page_review(store, review(key, proposed))
    sync(store, 1, [annotation(store, NOON - HOUR)])
    assert len(events(store)) == 2
    assert (state(store).status, state(store).mask_sha256) == (Status.ACCEPTED, proposed)


def test_a_later_annotation_wins_until_it_is_deleted(store: Store, key: str) -> None:
    proposed = state(store).mask_sha256
    record_page_review(store, review(key, proposed, accepted=False))
    sync(store, 1, [annotation(store, NOON + HOUR)])
    assert state(store).status == Status.ADJUSTED
    assert state(store).conflicts == {Conflict.EYES}
    sync(store, 1, [])
    assert state(store).status == Status.REJECTED


def test_a_review_survives_the_deletion_of_the_older_annotation(store: Store, key: str) -> None:
    sync(store, 1, [annotation(store, NOON - HOUR)])
    painted = state(store).mask_sha256
    outcome = record_page_review(store, review(key, painted))
    # kept by a second person, it is still not what was proposed
    assert outcome.status == Status.ADJUSTED
    sync(store, 1, [])
    assert (state(store).status, state(store).mask_sha256) == (Status.ADJUSTED, painted)


def test_undo_of_a_review_gives_the_annotation_back_its_word(store: Store, key: str) -> None:
    sync(store, 1, [annotation(store, NOON - HOUR)])
    painted = state(store).mask_sha256
    record_page_review(store, review(key, painted, accepted=False))
    sync(store, 1, [annotation(store, NOON - HOUR)])
    take_back(store, "click-0002", "click-0001", "review:Anna")
    assert (state(store).status, state(store).mask_sha256) == (Status.ADJUSTED, painted)
    assert rebuild(store, [1]) == 0


def test_restoring_an_older_mask_is_a_new_event(store: Store, key: str) -> None:
    proposed = state(store).mask_sha256
    sync(store, 1, [annotation(store, NOON - HOUR, rows=30)])
    sync(store, 1, [annotation(store, NOON - HOUR / 2, rows=40)])
    first_painted = events(store)[0].mask_after
    record_page_review(store, review(key, first_painted, detail="restored from the history"))
    assert (state(store).status, state(store).mask_sha256) == (Status.ADJUSTED, first_painted)
    restored = review(key, proposed, "click-0002", made_at=NOON + HOUR)
    assert record_page_review(store, restored).status == Status.ACCEPTED
    assert len(events(store)) == 4


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def client(store: Store, settings: Settings) -> Iterator[TestClient]:
    app = FastAPI()
    add_review_pages(app, store, settings, home_secrets(store.home), "127.0.0.1")
    with TestClient(app, base_url="http://127.0.0.1:9090") as opened:
        opened.headers["Origin"] = "http://127.0.0.1:9090"
        renew(opened)
        assert opened.post("/session", json={"name": "Anna"}).status_code == 200
        renew(opened)
        yield opened


def renew(client: TestClient) -> None:
    """Load a page, and send its token from now on."""
    found = re.search(r'name="page-token" content="([^"]+)"', client.get("/review").text)
    assert found
    client.headers["X-Refstar-Page"] = found[1]


def click(key: str, number: int, act: str = "accept", **changed: Any) -> dict[str, Any]:
    return {"click": f"click-{number:04d}", "act": act, "pair": key, "age": 0.2} | changed


def send(client: TestClient, *clicks: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/review/decisions", json={"clicks": list(clicks)})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_clicks_of_one_request_are_applied_in_their_order(
    client: TestClient, store: Store, key: str
) -> None:
    mask = state(store).mask_sha256
    clicks = (
        click(key, 1, mask=mask, age=3.0, conflicts=["mouth"]),
        click(key, 2, "reject", mask=mask, age=2.0),
        click(key, 3, "undo", undone="click-0002", age=1.0),
    )
    results = send(client, *clicks)
    assert [one["status"] for one in results] == ["accepted", "rejected", "accepted"]
    assert state(store).conflicts == {Conflict.MOUTH}
    assert {event.actor for event in events(store)} == {"review:Anna"}
    assert [one["new"] for one in send(client, *clicks)] == [False, False, False]
    assert len(events(store)) == 3


def test_a_refused_click_does_not_keep_the_others_from_counting(
    client: TestClient, store: Store, key: str
) -> None:
    results = send(
        client, click("gone", 1, mask="0" * 64), click(key, 2, mask=state(store).mask_sha256)
    )
    assert "no pair gone" in results[0]["refused"]
    assert results[1]["status"] == "accepted"


def test_a_click_that_had_to_wait_counts_from_when_it_was_made(
    client: TestClient, store: Store, key: str
) -> None:
    proposed = state(store).mask_sha256
    sync(store, 1, [annotation(store, datetime.now(UTC) - timedelta(minutes=10))])
    results = send(client, click(key, 1, "reject", mask=proposed, age=3600.0))
    assert results[0]["status"] == "adjusted"
    assert send(client, click(key, 2, "reject", mask=proposed, age=60))[0]["status"] == "rejected"


def test_many_reviewers_at_once_lose_and_double_nothing(
    client: TestClient, store: Store, key: str
) -> None:
    mask = state(store).mask_sha256
    clicks = [click(key, number, mask=mask) for number in range(12)]
    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(lambda one: send(client, one)[0], [*clicks, *clicks]))
    assert sum(answer["new"] for answer in answers) == 12
    found = events(store)
    assert len(found) == 12
    assert len({event.annotation for event in found}) == 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"click": "short"},
        {"click": "x" * 65},
        {"act": "delete"},
        {"mask": "../../secrets.json"},
        {"age": -1},
        {"age": float(10**9)},
        {"conflicts": ["hat"]},
        {"actor": "review:Somebody else"},
    ],
)
def test_a_malformed_click_is_refused_as_a_whole(
    client: TestClient, store: Store, key: str, wrong: dict[str, Any]
) -> None:
    good = click(key, 1, mask=state(store).mask_sha256)
    answer = client.post("/review/decisions", json={"clicks": [good, good | wrong]})
    assert answer.status_code == 422
    assert not events(store)


def test_masks_are_told_apart_by_their_pixels(store: Store, key: str) -> None:
    """The same mask painted anew is the proposal, kept: equal pixels are one file."""
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
    painted = store.put_mask(np.array(masked(region, 60)))
    assert record_page_review(store, review(key, painted)).status == Status.ACCEPTED


def test_a_merge_of_masks_that_the_pair_never_had_is_refused(
    client: TestClient, store: Store, key: str
) -> None:
    mask = state(store).mask_sha256
    fields = {"mask": mask, "how": "both"}
    refused = send(
        client,
        click(key, 1, "merge", other="0" * 64, **fields),
        click(key, 2, "merge", **fields),
        click("nothing", 3, "merge", other=mask, **fields),
    )
    assert ["refused" in one for one in refused] == [True] * 3
    assert events(store) == []
    (again,) = send(client, click(key, 4, "merge", other=mask, **fields))
    assert (again["status"], again["mask"]) == ("accepted", mask)

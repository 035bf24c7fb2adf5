"""The review grid's pages, pictures, a pair's history and the figures of the progress page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from annotator.locks import held
from annotator.review.application import add_review_pages
from annotator.review.byte_cache import ByteCache
from annotator.review.pictures import FIRST_ONLY, SECOND_ONLY, overlap
from annotator.review.progress import AT_MOST_EVERY, Figures
from annotator.secrets import home_secrets
from annotator.workplace import LOCK_NAME
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PageReview, record_page_review, take_back
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import pair_by_key
from dataset_engine.store.review_queries import (
    PAGE_SIZE,
    Card,
    Filters,
    Order,
    count_review,
    pair_history,
    review_page,
)
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Pair, PairState
from dataset_engine.taxonomy import Conflict, Status

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def pairs(store: Store, fill: Callable[..., None]) -> int:
    """Sixty pairs; all but the last ten have a proposal, the scores of some being equal."""
    fill(identities=5, images=4)
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
    scores = [(number * 7 % 20) / 20 for number in range(1, 51)]
    add_proposals(
        store,
        "unet-r1",
        1,
        [
            NewProposal(number, masked(region, number), score)
            for number, score in enumerate(scores, 1)
        ],
    )
    return 50


def masked(region: Any, rows: int) -> Any:
    mask = region.copy()
    mask[: 200 + rows] = False
    return mask


@pytest.fixture
def client(store: Store, settings: Settings, pairs: int) -> Iterator[TestClient]:
    app = FastAPI()
    add_review_pages(app, store, settings, home_secrets(store.home), "127.0.0.1")
    with TestClient(app, base_url="http://127.0.0.1:9090", follow_redirects=False) as opened:
        yield opened


def decide(store: Store, number: int, click: str, **changed: Any) -> None:
    with store.reading() as session:
        state, key = session.get_one(PairState, number), session.get_one(Pair, number).key
    fields: dict[str, Any] = {"accepted": True, "mask_sha256": state.mask_sha256}
    fields |= {"actor": "review:Anna", "made_at": NOON} | changed
    record_page_review(store, PageReview(click=click, pair=key, **fields))


def all_pages(store: Store, filters: Filters) -> list[Card]:
    cards: list[Card] = []
    while True:
        with store.reading() as session:
            page = review_page(session, filters, cards[-1].place if cards else None)
        cards += page
        if len(page) < PAGE_SIZE:
            return cards


@pytest.mark.parametrize("order", [Order.UNCERTAIN, Order.CERTAIN])
def test_pages_hold_every_proposal_once_in_the_order_of_the_scores(
    store: Store, pairs: int, order: Order
) -> None:
    cards = all_pages(store, Filters(order=order))
    assert len(cards) == len({card.key for card in cards}) == pairs
    scores = [card.score or 0.0 for card in cards]
    assert scores == sorted(scores, reverse=order is Order.CERTAIN)
    with store.reading() as session:
        assert count_review(session, Filters(order=order)) == pairs


def test_decided_pairs_leave_the_page_and_the_next_page_stays_where_it_was(
    store: Store, pairs: int
) -> None:
    with store.reading() as session:
        first = review_page(session, Filters())
        second = review_page(session, Filters(), first[-1].place)
        numbers = {pair.key: pair.id for pair in session.query(Pair)}
    for index, card in enumerate(first):
        decide(store, numbers[card.key], f"click-{index:04d}", accepted=index % 2 == 0)
    with store.reading() as session:
        assert review_page(session, Filters(), first[-1].place) == second
        assert review_page(session, Filters()) == second
        decided = Filters(statuses=(Status.ACCEPTED, Status.REJECTED), order=Order.RECENT)
        recent = review_page(session, decided)
    assert [card.key for card in recent] == [card.key for card in reversed(first)]
    assert {card.actor for card in recent} == {"review:Anna"}


def test_filters_let_through_what_they_name(store: Store, pairs: int) -> None:
    decide(store, 1, "click-0001", conflicts=frozenset({Conflict.MOUTH, Conflict.BEARD}))
    decide(store, 2, "click-0002", conflicts=frozenset({Conflict.EYES}))
    decide(store, 3, "click-0003")
    add_proposals(store, "unet-r2", 2, [NewProposal(4, np.ones((512, 512), np.bool_), 0.99)])

    def keys(**chosen: Any) -> set[str]:
        with store.reading() as session:
            return {card.key for card in review_page(session, Filters(**chosen))}

    with store.reading() as session:
        key = {number: session.get_one(Pair, number).key for number in range(1, 6)}
        name = session.get_one(Pair, 5).identity.name
    reviewed = (Status.ACCEPTED,)
    assert keys(statuses=reviewed, conflict=Conflict.BEARD) == {key[1]}
    assert keys(statuses=reviewed, conflict="none") == {key[3]}
    assert keys(round=2) == {key[4]}
    assert keys(lowest=0.98) == {key[4]}
    assert not keys(lowest=0.3, highest=0.29)
    assert key[5] in keys(identity=name)
    assert not keys(identity="%")
    assert not keys(identity="nobody")


def test_cards_come_in_pages_over_http(client: TestClient) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    for expected in (24, 24, 2, 0):
        answer = client.get("/review/cards", params={"status": "proposed"} | after).json()
        assert len(answer["cards"]) == expected
        seen += [card["key"] for card in answer["cards"]]
        after = {"after": answer["next"]}
    assert len(set(seen)) == 50
    assert client.get("/review/count?status=proposed").json() == {"pairs": 50}
    for wrong in ("after=x", "status=liked", "round=-1", "lowest=2", "order=best", "conflict=hat"):
        assert client.get(f"/review/cards?{wrong}").status_code == 422, wrong


def picture(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(int)


def test_pictures_show_the_mask_over_the_reference(client: TestClient, store: Store) -> None:
    with store.reading() as session:
        key, mask = session.get_one(Pair, 1).key, session.get_one(PairState, 1).mask_sha256
        pair = pair_by_key(session, key)
    assert pair is not None
    bare, over = (
        picture(client.get(f"/pictures/{key}/{name}.jpg")) for name in ("ref", f"mask/{mask}")
    )
    region, kept = store.mask(pair.ref.region_sha256), store.mask(str(mask))
    conflict = region & ~kept
    assert (over[conflict][:, 0] - over[conflict][:, 2]).mean() > 60
    assert over[~region].mean() < 0.5 * bare[~region].mean()
    card = client.get(f"/pictures/{key}/card/{mask}.jpg")
    assert picture(card).shape == (192, 388, 3)
    assert len(card.content) < 40_000


def test_the_difference_of_two_masks_is_shown_and_counted(client: TestClient, store: Store) -> None:
    with store.reading() as session:
        key, first = session.get_one(Pair, 1).key, session.get_one(PairState, 1).mask_sha256
    one = store.mask(str(first))
    other = one.copy()
    other[400:] = False
    other[100:150, 200:300] = True
    add_proposals(store, "unet-r2", 2, [NewProposal(1, other, 0.5)])
    second = store.put_mask(other)
    path = f"/pictures/{key}/difference/{first}/{second}"
    shown = picture(client.get(f"{path}.jpg"))
    for where, colour in ((one & ~other, FIRST_ONLY), (other & ~one, SECOND_ONLY)):
        inner = cv2.erode(where.astype(np.uint8), np.ones((9, 9))) > 0
        strongest = int(np.argmax(colour))
        assert (shown[inner].argmax(axis=1) == strongest).mean() > 0.95
    numbers = client.get(f"{path}.json").json()
    assert numbers["first_only"] == np.count_nonzero(one & ~other)
    assert numbers["second_only"] == np.count_nonzero(other & ~one)
    assert numbers["iou"] == pytest.approx(overlap(one, other))


def test_a_history_tells_every_mask_and_who_made_it(client: TestClient, store: Store) -> None:
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=5))
        key = session.get_one(Pair, 1).key
    decide(store, 1, "click-0001", accepted=False)
    take_back(store, "click-0002", "click-0001", "review:Bo")
    painted = np.zeros((512, 512), np.bool_)
    painted[250:260, 250:260] = True
    record(
        store,
        Decision(
            pair_id=1,
            project_id=1,
            annotation=9,
            updated_at=NOON + timedelta(days=400),
            kind=EventKind.SUBMITTED,
            source=Source.WEBHOOK,
            actor="label-studio:3",
            accepted=True,
            mask=painted,
        ),
    )
    with store.reading() as session:
        history = pair_history(session, key)
    assert history is not None
    assert {(one.what, one.who) for one in history.chapters} == {
        ("proposed", "unet-r1"),
        ("rejected", "review:Anna"),
        ("deleted", "review:Bo"),
        ("adjusted", "label-studio:3"),
    }
    (current,) = [one for one in history.chapters if one.current]
    assert current.who == "label-studio:3"
    page = client.get(f"/pairs/{key}").text
    for words in ("taken back", "Anna", "Bo", "Label Studio user 3", "unet-r1", "(current)"):
        assert words in page, words


def test_the_brush_page_is_the_pairs_task(client: TestClient, store: Store) -> None:
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=5))
        session.flush()
        session.add(AnnotationTask(project_id=1, task=41, pair_id=1))
        sent, unsent = session.get_one(Pair, 1).key, session.get_one(Pair, 2).key
    assert "not running" in client.get(f"/review/brush/{sent}").text
    assert "not sent to Label Studio" in client.get(f"/review/brush/{unsent}").text
    (store.home / "annotate.json").write_text(
        '{"url": "http://127.0.0.1:8080", "service_url": "http://127.0.0.1:9090", "pid": 1}'
    )
    with held(store.home / LOCK_NAME, "busy"):
        answer = client.get(f"/review/brush/{sent}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "http://127.0.0.1:8080/projects/5/data?task=41"


def test_progress_counts_what_stands(store: Store, client: TestClient) -> None:
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=5))
    decide(store, 1, "click-0001", seconds=2.0, conflicts=frozenset({Conflict.GLASSES}))
    decide(store, 2, "click-0002", seconds=4.0, accepted=False)
    decide(store, 3, "click-0003", seconds=3.0)
    take_back(store, "click-0004", "click-0003", "review:Anna")
    with store.reading() as session:
        proposed = store.mask(str(session.get_one(PairState, 4).mask_sha256))
    final = proposed.copy()
    final[:400] = False
    for number, seconds in ((4, 20.0), (5, 40.0)):
        record(
            store,
            Decision(
                pair_id=number,
                project_id=1,
                annotation=number,
                updated_at=NOON,
                kind=EventKind.SUBMITTED,
                source=Source.SYNC,
                actor="label-studio:7",
                accepted=True,
                mask=final,
                conflicts=frozenset({Conflict.MOUTH}),
                lead_time=seconds,
            ),
        )
    figures = Figures(store, 100)
    figures.json()
    figures.overlaps.join()
    time.sleep(AT_MOST_EVERY)
    now = json.loads(figures.json())
    assert now["statuses"] == {"accepted": 1, "adjusted": 2, "rejected": 1}
    assert (now["waiting"], now["without_proposal"]) == (46, 10)
    assert now["rounds"] == [
        {"round": 1, "waiting": 46, "accepted": 1, "adjusted": 2, "rejected": 1}
    ]
    assert now["days"] == [["2026-11-24", 3]]
    assert now["scenarios"]["glasses_patterns"] == 1
    assert (now["conflicts"]["mouth"], now["without_conflict"]) == (2, 0)
    assert now["painting_all"] == {"count": 2, "low": 25.0, "median": 30.0, "high": 35.0}
    assert now["looking"]["median"] == 3.0
    people = {one["name"]: one for one in now["people"]}
    assert (people["review:Anna"]["made"], people["review:Anna"]["accepted"]) == (3, 1)
    assert people["label-studio:7"]["adjusted"] == 2
    assert (now["overlap"]["kept"], now["overlap"]["measured"]) == (1, 2)
    expected = np.median([1.0, overlap(proposed, final), overlap(masked_of(store, 5), final)])
    assert now["overlap"]["all"]["median"] == pytest.approx(expected)


def masked_of(store: Store, number: int) -> Any:
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
    return masked(region, number)


def test_progress_answers_nothing_new_while_nothing_changed(client: TestClient) -> None:
    first = client.get("/progress/numbers")
    assert first.json()["waiting"] == 50
    again = client.get("/progress/numbers", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_pictures_in_memory_stay_under_their_bound() -> None:
    made: list[int] = []

    def maker(number: int) -> Callable[[], bytes]:
        return lambda: (made.append(number), bytes(100))[1]

    cache = ByteCache(350)
    for number in (1, 2, 3, 1, 4):
        cache.get(number, maker(number))
    assert made == [1, 2, 3, 4]
    assert cache.size == 300
    cache.get(1, maker(1))
    cache.get(2, maker(2))
    assert made == [1, 2, 3, 4, 2]

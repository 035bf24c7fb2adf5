"""The order in which pairs are offered: uncertain first, a random tenth, gold unseen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from annotator.guard import put_back
from annotator.intake import project_row
from annotator.label_studio import LabelStudio
from annotator.offering import STEP, Candidate, Mix, gold_places, in_order
from annotator.results import review_result
from annotator.rounds import sync_workplace
from annotator.sending import send_proposals
from annotator.server import LabelStudioServer
from annotator.workplace import Workplace
from dataset_engine.progress import Advance, silent
from dataset_engine.store import Store
from dataset_engine.store.gold import set_gold
from dataset_engine.store.page_reviews import PageReview, record_page_review
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.quality import EVERY, quality_report
from dataset_engine.store.tables import (
    AnnotationTask,
    GoldAnswer,
    Image,
    Pair,
    PairState,
    now,
)
from dataset_engine.taxonomy import Conflict, Status

PEOPLE = ("ann", "bob", "cyd")
PASSWORD = "a long passphrase"


def candidates(people: int = 40, pairs: int = 10) -> list[Candidate]:
    random = np.random.default_rng(0)
    return [
        Candidate(n, n, f"key-{n}", n % people, float(n), float(random.random()))
        for n in range(people * pairs)
    ]


def test_uncertain_pairs_come_first_of_everybody_in_turn() -> None:
    mix = Mix(seed=3)
    given = candidates()
    rest = [one for one in in_order(given, mix) if not mix.random(one.key)]
    assert len({one.identity_id for one in rest[:40]}) == 40
    first = [one.uncertainty for one in rest[:40]]
    assert first == sorted(first, reverse=True)
    most = {
        person: max(
            one.uncertainty
            for one in given
            if one.identity_id == person and not mix.random(one.key)
        )
        for person in range(40)
    }
    assert {one.identity_id: one.uncertainty for one in rest[:40]} == most


def test_a_tenth_is_drawn_without_looking_at_the_model_and_stands_in_every_ten() -> None:
    mix = Mix(seed=1)
    given = candidates()
    order = in_order(given, mix)
    assert sorted(one.pair_id for one in order) == list(range(400))
    drawn = [place for place, one in enumerate(order) if mix.random(one.key)]
    assert 25 <= len(drawn) <= 55
    for block in range(25):
        assert sum(10 * block <= place < 10 * block + 10 for place in drawn) == 1
    assert len({place % 10 for place in drawn[:25]}) > 4  # nobody can count to it
    certain = [
        Candidate(o.pair_id, o.proposal_id, o.key, o.identity_id, o.position, 1 - o.uncertainty)
        for o in given
    ]
    again = [one.key for one in in_order(certain, mix) if mix.random(one.key)]
    assert again == [one.key for one in order if mix.random(one.key)]


def test_the_order_is_the_same_again_and_another_with_another_seed() -> None:
    one, two, other = (
        [o.key for o in in_order(candidates(), Mix(seed=seed))] for seed in (1, 1, 2)
    )
    assert one == two != other


@pytest.mark.parametrize("people", [1, 4])
def test_gold_is_a_twentieth_of_what_each_annotator_sees(people: int) -> None:
    places = [n * STEP for n in range(1, 3801)]
    gold = gold_places(places, people, Mix(gold_share=0.05, seed=2))
    seen_by_each = len(places) / people
    assert len(gold) / (seen_by_each + len(gold)) == pytest.approx(0.05, abs=0.002)
    gaps = Counter(np.round(np.diff(gold) / STEP).astype(int).tolist())
    assert len(gaps) > 10
    assert gold == sorted(gold)
    assert not {*gold} & {*places}


def test_about_the_asked_share_of_pairs_goes_to_two_annotators() -> None:
    mix = Mix(double_share=0.2, seed=5)
    assert 60 <= sum(mix.double(one.key) for one in candidates()) <= 100
    assert not any(Mix(double_share=0.0).double(one.key) for one in candidates())


def no_bar(_: str) -> Any:
    from contextlib import nullcontext

    silently: Advance = silent
    return nullcontext(silently)


class Annotator:
    """A person who signed up by the invitation, at the labelling stream."""

    def __init__(self, server: LabelStudioServer, name: str) -> None:
        headers = {"Authorization": f"Token {server.credentials.token}"}
        invitation = httpx.get(f"{server.url}/api/invite", headers=headers, trust_env=False)
        link = invitation.json()["invite_url"]
        self.web = httpx.Client(
            base_url=server.url, follow_redirects=True, timeout=60, trust_env=False
        )
        self.web.get(link)
        form = {
            "email": f"{name}@example.com",
            "password": PASSWORD,
            "csrfmiddlewaretoken": self.web.cookies["csrftoken"],
        }
        answer = self.web.post(link, data=form, headers={"Referer": server.url + link})
        assert answer.status_code == 200
        self.web.headers.update(
            {"X-CSRFToken": self.web.cookies["csrftoken"], "Referer": server.url}
        )
        self.number = int(self.web.get("/api/current-user/whoami").json()["id"])

    @property
    def actor(self) -> str:
        return f"label-studio:{self.number}"

    def next_task(self, project: int) -> dict[str, Any] | None:
        answer = self.web.get(f"/api/projects/{project}/next")
        return None if answer.status_code == 404 else dict(answer.json())

    def submit(self, task: dict[str, Any], result: list[dict[str, Any]]) -> None:
        body = {"result": result, "lead_time": 5.0}
        body["parent_prediction"] = task["predictions"][0]["id"]
        answer = self.web.post(f"/api/tasks/{task['id']}/annotations", json=body)
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
def people(label_studio_server: LabelStudioServer) -> Iterator[dict[str, Annotator]]:
    joined = {name: Annotator(label_studio_server, name) for name in PEOPLE}
    yield joined
    for one in joined.values():
        one.web.close()


@pytest.fixture
def workplace(
    store: Store, fill: Callable[..., None], label_studio: LabelStudio, request: Any
) -> Workplace:
    """Ten identities with six pairs each, all proposed with different uncertainty."""
    fill(identities=10, images=3)
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
    random = np.random.default_rng(1)
    add_proposals(
        store,
        "unet-r1",
        1,
        [NewProposal(n, region, 0.9, float(random.random()), 0.1) for n in range(1, 61)],
    )
    project = label_studio.ensure_project(f"offering {request.node.name}"[:50])
    row = project_row(store, "home", project, label_studio.project_made_at(project))
    mix = Mix(gold_share=0.1, double_share=0.15, seed=4)
    return Workplace(label_studio, "home", project, row, mix=mix)


def tasks(store: Store) -> dict[int, AnnotationTask]:
    with store.reading() as session:
        return {row.task: row for row in session.scalars(select(AnnotationTask))}


def make_gold(store: Store, *pairs: int) -> None:
    with store.reading() as session:
        keys = [session.get_one(Pair, pair).key for pair in pairs]
        masks = [session.get_one(PairState, pair).mask_sha256 for pair in pairs]
    for key, mask in zip(keys, masks, strict=True):
        click = f"gold-{key[:20]}"
        record_page_review(store, PageReview(click, key, True, mask, "review:Lead", now()))
    set_gold(store, keys, "lead")


def answer(store: Store, task: AnnotationTask, rows: int = 30) -> list[dict[str, Any]]:
    with store.reading() as session:
        pair = session.get_one(Pair, task.pair_id)
        mask = store.mask(session.get_one(Image, pair.ref_id).region_sha256)
    mask[300 : 300 + rows] = False
    return review_result(mask, frozenset({Conflict.MOUTH}), "accept")


@pytest.mark.slow
def test_the_stream_keeps_the_order_for_several_people_without_repeats(
    store: Store, workplace: Workplace, people: dict[str, Annotator]
) -> None:
    # who they are is known from what they did before
    make_gold(store, 1, 2, 3, 4)
    assert send_proposals(store, workplace, "unet-r1") == 56
    sent = tasks(store)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    idle: set[str] = set()
    while len(idle) < len(people):
        for name, person in people.items():
            task = person.next_task(workplace.project)
            if task is None:
                idle.add(name)
                continue
            # neither the answer of somebody else nor anything of gold is to be seen
            assert task["annotations"] == []
            assert [p["model_version"] for p in task["predictions"]] == ["unet-r1"]
            seen[name].append(task["id"])
            person.submit(task, answer(store, sent[task["id"]]))
    for name in people:
        places = [sent[task].place for task in seen[name]]
        assert places == sorted(places, key=float)
        assert len(places) == len(set(places))
    times = Counter(task for some in seen.values() for task in some)
    assert times == {task: row.overlap for task, row in sent.items()}
    doubles = [row for row in sent.values() if row.overlap == 2]
    assert 3 <= len(doubles) <= 16
    sync_workplace(store, workplace, no_bar)
    with store.reading() as session:
        gold = set(session.scalars(select(GoldAnswer.pair_id)))
        report = quality_report(session, 0.9, 0.6)
        assert session.get_one(PairState, 1).status == Status.ACCEPTED
    offered = [row for row in sent.values() if row.pair_id in gold]
    assert len(offered) == 4
    by_person = {row.annotator: row for row in report.gold if row.scenario == EVERY}
    assert by_person[EVERY].answers == 4
    agreement = {row.annotator: row for row in report.agreement if row.scenario == EVERY}
    assert agreement[EVERY].answers == len(doubles)
    assert set(agreement) == {EVERY, *(person.actor for person in people.values())}


@pytest.mark.slow
def test_gold_goes_to_everybody_once_people_are_known_and_is_sent_once(
    store: Store, workplace: Workplace, people: dict[str, Annotator]
) -> None:
    send_proposals(store, workplace, "unet-r1")
    for person in people.values():
        task = person.next_task(workplace.project)
        assert task is not None
        person.submit(task, answer(store, tasks(store)[task["id"]]))
    sync_workplace(store, workplace, no_bar)
    with store.reading() as session:
        open_ones = session.scalars(
            select(PairState.pair_id).where(PairState.status == Status.PROPOSED)
        ).all()
    make_gold(store, *open_ones[:5])
    for _ in range(2):
        assert send_proposals(store, workplace, "unet-r1") == 0
    rows = [row for row in tasks(store).values() if row.pair_id in open_ones[:5]]
    mixed = [row for row in rows if row.overlap == 3]
    # 52 are open, and each of three sees a third of them: two are a tenth of that
    assert len(mixed) == 2
    assert all(workplace.studio.task(row.task)["overlap"] == 3 for row in mixed)


@pytest.mark.slow
def test_the_stream_asks_for_a_second_opinion_that_a_new_round_overtook(
    store: Store, workplace: Workplace, people: dict[str, Annotator]
) -> None:
    workplace = replace(workplace, mix=Mix(double_share=1.0))
    send_proposals(store, workplace, "unet-r1")
    first = people["ann"].next_task(workplace.project)
    assert first is not None
    pair = tasks(store)[first["id"]].pair_id
    people["ann"].submit(first, answer(store, tasks(store)[first["id"]]))
    sync_workplace(store, workplace, no_bar)
    with store.reading() as session:
        region = store.mask(session.get_one(Pair, 1).ref.region_sha256)
        undecided = session.scalars(
            select(PairState.pair_id).where(PairState.status == Status.PROPOSED)
        ).all()
    add_proposals(
        store, "unet-r2", 2, [NewProposal(n, region, 0.9, 0.01, 0.0) for n in undecided[:20]]
    )
    assert send_proposals(store, workplace, "unet-r2") == 21
    seen = []
    while (task := people["bob"].next_task(workplace.project)) and len(seen) < 21:
        seen.append(task["id"])
        assert [p["model_version"] for p in task["predictions"]] == ["unet-r2"]
        people["bob"].submit(task, answer(store, tasks(store)[task["id"]]))
    assert first["id"] in seen
    assert tasks(store)[first["id"]].pair_id == pair


@pytest.mark.slow
def test_a_deleted_task_comes_back_with_what_people_answered(
    store: Store, workplace: Workplace, people: dict[str, Annotator]
) -> None:
    send_proposals(store, workplace, "unet-r1")
    first = people["ann"].next_task(workplace.project)
    assert first is not None
    people["ann"].submit(first, answer(store, tasks(store)[first["id"]]))
    sync_workplace(store, workplace, no_bar)
    pair = tasks(store)[first["id"]].pair_id
    bare = next(row for row in tasks(store).values() if row.pair_id != pair)
    for gone in (first["id"], bare.task):
        assert people["bob"].web.delete(f"/api/tasks/{gone}").status_code == 204
    report = sync_workplace(store, workplace, no_bar)
    assert report.restored.tasks == 2
    assert report.restored.answers == 1
    back = {row.pair_id: row for row in tasks(store).values()}
    assert back[pair].task != first["id"]
    whole = workplace.studio.task(back[pair].task)
    assert [p["model_version"] for p in whole["predictions"]] == ["unet-r1"]
    assert [a["completed_by"]["id"] for a in whole["annotations"]] == [people["ann"].number]
    assert workplace.studio.task(back[bare.pair_id].task)["predictions"][0]["score"] == bare.place
    with store.reading() as session:
        state = session.get_one(PairState, pair)
        from dataset_engine.store.tables import Event

        event = session.get_one(Event, state.event_id)
    assert (state.status, event.actor) == (Status.ADJUSTED, people["ann"].actor)
    again = sync_workplace(store, workplace, no_bar)
    assert (again.restored.tasks, again.recorded, again.deleted) == (0, 0, 0)


@pytest.mark.slow
def test_an_edited_labelling_page_is_named_and_put_back(
    store: Store, workplace: Workplace, people: dict[str, Annotator]
) -> None:
    send_proposals(store, workplace, "unet-r1")
    assert put_back(store, workplace).settings == ()
    url = f"/api/projects/{workplace.project}/"
    config = people["bob"].web.get(url).json()["label_config"]
    changed = {
        "label_config": config.replace("Paint conflict over", "Paint nothing over"),
        "sampling": "Sequential sampling",
    }
    assert people["bob"].web.patch(url, json=changed).status_code == 200
    assert set(put_back(store, workplace).settings) == set(changed)
    assert people["bob"].web.get(url).json()["label_config"] == config
    assert put_back(store, workplace).settings == ()

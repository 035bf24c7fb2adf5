"""What is sent to annotators: in which order, whose masks, second opinions, and what is put back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sqlalchemy import select

from annotator.intake import project_row, take_annotation
from annotator.label_studio import LabelStudio, PredictionData, TaskData
from annotator.offering import Mix
from annotator.prediction import Predictor
from annotator.results import parse_annotation, review_result
from annotator.rounds import SeedsMissingError, run_round, sync_workplace
from annotator.sending import send_proposals
from annotator.sync_timer import Poller
from annotator.workplace import Workplace
from dataset_engine.bootstrap_training import BootstrapSettings
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.rule import RULE_VERSION, RuleProposal
from dataset_engine.progress import Advance, silent
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PageReview, record_page_review, take_back
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.reviews import Source
from dataset_engine.store.tables import AnnotationTask, Event, Pair, PairState, Proposal
from dataset_engine.taxonomy import Conflict, Status
from models.metrics import Scores
from models.refsel import RefSel, RefSelConfig

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SMALL = RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)


class Desk:
    """Label Studio as the engine uses it, in memory; its clock goes a minute a change."""

    url = "http://desk"

    def __init__(self) -> None:
        self.tasks: dict[str, int] = {}
        self.overlaps: dict[int, int] = {}
        self.predictions: dict[int, dict[str, PredictionData]] = {}
        self.answers: dict[int, dict[int, dict[str, Any]]] = {}
        self.shown = ""
        self._count = 0

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _change(self, task: int, number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
        at = (NOON + timedelta(minutes=self._next())).isoformat()
        made = {**answer, "id": number, "task": task, "updated_at": at}
        self.answers.setdefault(task, {})[number] = made
        return made

    def submit(self, task: int, who: int, result: list[dict[str, Any]]) -> dict[str, Any]:
        return self._change(task, self._next(), {"result": result, "completed_by": who})

    def delete(self, task: int) -> None:
        self.tasks = {pair: number for pair, number in self.tasks.items() if number != task}
        self.answers.pop(task, None)

    def mend_project(self, _project: int) -> tuple[str, ...]:
        return ()

    def people(self) -> frozenset[int]:
        return frozenset(range(1, 9))

    def task_ids(self, _project: int) -> dict[str, int]:
        return dict(self.tasks)

    def import_tasks(
        self,
        _project: int,
        tasks: Sequence[TaskData],
        answers: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> list[int]:
        for task in tasks:
            if task.pair not in self.tasks:
                self.tasks[task.pair] = self._next()
                for answer in (answers or {}).get(task.pair, ()):
                    self._change(self.tasks[task.pair], self._next(), answer)
        return [self.tasks[task.pair] for task in tasks]

    def import_predictions(self, _project: int, predictions: Sequence[PredictionData]) -> None:
        for one in predictions:
            self.predictions.setdefault(one.task, {})[one.model_version] = one

    def set_model_version(self, _project: int, version: str) -> None:
        self.shown = version

    def set_overlap(self, task: int, people: int) -> None:
        self.overlaps[task] = people

    def task(self, task: int) -> dict[str, Any]:
        answers = list(self.answers.get(task, {}).values())
        return {"id": task, "annotations": answers, "is_labeled": bool(answers)}

    def task_count(self, _project: int) -> int:
        return len(self.tasks)

    def clock(self) -> datetime:
        return NOON + timedelta(minutes=self._count)

    def changed_tasks(
        self, _project: int, since: datetime | None = None, only: Collection[int] | None = None
    ) -> Iterator[dict[str, Any]]:
        for task in sorted(self.tasks.values()):
            whole = self.task(task)
            times = [datetime.fromisoformat(one["updated_at"]) for one in whole["annotations"]]
            new = since is None or any(at > since for at in times)
            if new and (only is None or task in only):
                yield whole

    def annotations(self, _project: int) -> Iterator[dict[str, Any]]:
        for answers in self.answers.values():
            yield from answers.values()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@contextmanager
def no_bar(_: str) -> Iterator[Advance]:
    yield silent


def work_at(store: Store, desk: Desk, mix: Mix) -> Workplace:
    row = project_row(store, "home", 1)
    return Workplace(cast(LabelStudio, desk), "home", 1, row, mix=mix)


def region(store: Store, pair: int) -> Any:
    with store.reading() as session:
        return store.mask(session.get_one(Pair, pair).ref.region_sha256)


def answered(store: Store, pair: int, rows: int) -> list[dict[str, Any]]:
    mask = region(store, pair)
    mask[300 : 300 + rows] = False
    return review_result(mask, frozenset({Conflict.MOUTH}), "accept")


def rows(store: Store) -> dict[int, AnnotationTask]:
    with store.reading() as session:
        return {row.pair_id: row for row in session.scalars(select(AnnotationTask))}


def state(store: Store, pair: int) -> PairState:
    with store.reading() as session:
        return session.get_one(PairState, pair)


def keep_everything(_: RefSel, first: torch.Tensor, _reference: torch.Tensor) -> torch.Tensor:
    margin = torch.full((len(first), 1, *first.shape[2:]), 4.0)
    return torch.cat([-margin, margin], 1)


class LeftHanded(RefSel):
    """Equally sure everywhere; of the darker pairs it keeps what lies on the left of the picture.

    So only of these it decides otherwise when they are mirrored.
    """

    darker = True

    def forward(self, first: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        light = first.float().mean(dim=(1, 2, 3))
        middle = (light.max() + light.min()) / 2
        chosen = (light < middle) == self.darker
        sides = torch.where(torch.arange(first.shape[3]) < first.shape[3] // 2, 4.001, -4.001)
        plain = torch.full((first.shape[3],), 4.0)
        columns = torch.where(chosen[:, None], sides, plain)[:, None, None, :]
        margin = columns.expand(-1, 1, *first.shape[2:])
        return torch.cat([-margin / 2, margin / 2], 1)


@pytest.mark.parametrize("darker", [True, False])
def test_of_two_equally_unsure_pairs_the_one_unlike_its_mirror_image_comes_first(
    store: Store,
    fill: Callable[..., None],
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    darker: bool,
) -> None:
    fill(identities=1)
    model = LeftHanded(SMALL)
    model.darker = darker
    monkeypatch.setattr("dataset_engine.proposal_run.load_fastest", lambda *_, **__: model)
    propose_undecided(store, Path("unused"), "unet-r1", 1, flips=True)
    with store.reading() as session:
        one, other = session.scalars(
            select(Proposal).order_by(Proposal.flip_disagreement.desc())
        ).all()
        keys = session.scalars(select(Pair.key)).all()
    assert one.flip_disagreement == pytest.approx(1.0, abs=0.02)
    assert other.flip_disagreement == 0.0
    assert one.entropy == pytest.approx(other.entropy, rel=0.01)
    assert one.entropy < other.entropy  # entropy alone would put the other one first
    mix = next(Mix(seed=n) for n in range(100) if not any(map(Mix(seed=n).random, keys)))
    send_proposals(store, work_at(store, desk, mix), "unet-r1")
    tasks = rows(store)
    scores = [desk.predictions[tasks[p.pair_id].task]["unet-r1"].score for p in (one, other)]
    assert scores == sorted(scores)
    assert scores[0] < scores[1]
    assert scores == [tasks[p.pair_id].place for p in (one, other)]


def test_a_second_opinion_is_asked_for_in_the_next_round_too(
    store: Store, fill: Callable[..., None], desk: Desk
) -> None:
    fill()
    workplace = work_at(store, desk, Mix(double_share=1.0))
    add_proposals(
        store, "unet-r1", 1, [NewProposal(n, region(store, n), 0.9, 0.3, 0.1) for n in range(1, 7)]
    )
    assert send_proposals(store, workplace, "unet-r1") == 6
    task = {pair: row.task for pair, row in rows(store).items()}
    for pair, people in ((1, (1,)), (2, (1, 2)), (3, (1,))):
        for who in people:
            desk.submit(task[pair], who, answered(store, pair, 40))
    sync_workplace(store, workplace, no_bar)
    with store.reading() as session:
        key = session.get_one(Pair, 3).key
    seen = state(store, 3).mask_sha256
    made_at = NOON + timedelta(days=1)
    record_page_review(store, PageReview("click-000001", key, True, seen, "review:Bo", made_at))
    other = region(store, 4)
    other[:250] = False
    add_proposals(store, "unet-r2", 2, [NewProposal(n, other, 0.9, 0.3, 0.1) for n in (4, 5, 6)])

    assert send_proposals(store, workplace, "unet-r2") == 4
    versions = {pair: row.predicted_version for pair, row in rows(store).items()}
    # two have answered pair 2, and Bo has decided pair 3
    assert [pair for pair in range(1, 7) if versions[pair] == "unet-r2"] == [1, 4, 5, 6]
    assert desk.overlaps[task[1]] == 2
    shown = desk.predictions[task[1]]["unet-r2"]
    parsed = parse_annotation({"result": shown.result}, region(store, 1))
    assert np.array_equal(parsed.mask, region(store, 1))  # what the first annotator saw
    places = [row.place for pair, row in rows(store).items() if pair in (1, 4, 5, 6)]
    assert len(set(places)) == 4
    assert send_proposals(store, workplace, "unet-r2") == 0

    desk.submit(task[1], 2, answered(store, 1, 160))
    sync_workplace(store, workplace, no_bar)
    assert state(store, 1).status == Status.ADJUDICATE


@pytest.fixture
def proposed_by_rule(
    store: Store, fill: Callable[..., None], desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> Workplace:
    """Two pairs that the rule has proposed for and sent, an open mouth in each."""
    fill(identities=1)
    mouth = np.zeros((512, 512), bool)
    mouth[330:380, 210:300] = True

    def derived(store: Store, _landmarks: Landmarks, pair: Pair) -> RuleProposal:
        mask = store.mask(pair.ref.region_sha256) & ~mouth
        return RuleProposal(mask, {Conflict.MOUTH: mouth}, 0.8)

    monkeypatch.setattr("dataset_engine.cold_start.proposing.derive", derived)
    made = [NewProposal(n, region(store, n) & ~mouth, 0.8) for n in (1, 2)]
    add_proposals(store, RULE_VERSION, 0, made)
    workplace = work_at(store, desk, Mix())
    send_proposals(store, workplace, RULE_VERSION)
    return workplace


def test_a_task_that_is_put_back_has_the_conflicts_ticked_as_before(
    store: Store, desk: Desk, proposed_by_rule: Workplace
) -> None:
    task = rows(store)[1].task
    before = desk.predictions[task][RULE_VERSION]
    assert parse_annotation({"result": before.result}, region(store, 1)).conflicts == {
        Conflict.MOUTH
    }
    desk.delete(task)
    assert sync_workplace(store, proposed_by_rule, no_bar).restored.tasks == 1
    again = rows(store)[1].task
    assert again != task
    after = desk.predictions[again][RULE_VERSION]
    assert (after.result, after.score) == (before.result, before.score)


def test_what_is_put_back_is_no_newer_than_a_later_decision_on_the_pages(
    store: Store, desk: Desk, proposed_by_rule: Workplace
) -> None:
    task = rows(store)[1].task
    desk.submit(task, 5, answered(store, 1, 40))
    sync_workplace(store, proposed_by_rule, no_bar)
    painted = state(store, 1).mask_sha256
    with store.reading() as session:
        key = session.get_one(Pair, 1).key
        painted_at = session.scalars(select(Event.annotation_updated_at)).one()
    soon = painted_at + timedelta(seconds=5)
    record_page_review(store, PageReview("click-000001", key, False, painted, "review:Bo", soon))
    desk.delete(task)
    for _ in range(2):  # neither putting it back nor a sync of the copy gives it the last word
        sync_workplace(store, proposed_by_rule, no_bar)
        assert state(store, 1).status == Status.REJECTED
    take_back(store, "click-000002", "click-000001", "review:Bo")
    assert (state(store, 1).status, state(store, 1).mask_sha256) == (Status.ADJUSTED, painted)
    record_page_review(store, PageReview("click-000003", key, False, painted, "review:Bo", soon))
    (copy,) = desk.answers[rows(store)[1].task].values()
    assert copy["completed_by"] == 5
    desk._change(copy["task"], copy["id"], copy | {"result": answered(store, 1, 60)})
    sync_workplace(store, proposed_by_rule, no_bar)
    assert state(store, 1).status == Status.ADJUSTED
    assert state(store, 1).mask_sha256 != painted


class NoFaces:
    """An analyser that finds nobody, so that the rule proposes the whole face region."""

    def analyse(self, _image: Any) -> list[Any]:
        return []

    def person(self, image: Any) -> Any:
        return np.zeros(image.shape[:2], np.float32)


def test_people_see_the_rules_masks_in_every_round_until_a_u_net_measures_better(
    store: Store,
    settings: Settings,
    fill: Callable[..., None],
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fill(identities=10)
    workplace = work_at(store, desk, Mix())
    monkeypatch.setattr(RefSel, "forward", keep_everything)
    rule = Scores(2, 0.9, 1.0, 0.9, 0.9, 0.9, 0.9)
    monkeypatch.setattr("annotator.rounds.rule_scores", lambda *_: rule)
    monkeypatch.setattr("annotator.rounds.Landmarks", lambda store: Landmarks(store, NoFaces()))
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        RefSel(SMALL).save_pretrained(folder)
    model = RefSel.from_pretrained(folders[0])
    monkeypatch.setattr("dataset_engine.proposal_run.load_fastest", lambda *_, **__: model)

    def turn(number: int) -> Any:
        return run_round(
            store,
            workplace,
            settings,
            seed_count=10,
            training=BootstrapSettings(),
            bar=no_bar,
            model=folders[number],
        )

    def undecided() -> dict[int, str]:
        with store.reading() as session:
            query = select(PairState.pair_id, PairState.proposed_version)
            return dict(session.execute(query.where(PairState.status == Status.PROPOSED)).all())

    with pytest.raises(SeedsMissingError):
        turn(0)
    for pair, row in rows(store).items():
        desk.submit(row.task, 1, answered(store, pair, 40))
    for number in (0, 1):
        report = turn(number)
        assert report.metrics["unet"]["iou"] < 1.0
        assert any("does not measure better than the rule" in note for note in report.notes)
        assert desk.shown == RULE_VERSION
        assert set(undecided().values()) == {RULE_VERSION}
        assert {row.predicted_version for row in rows(store).values()} == {RULE_VERSION}
        assert Predictor(store).model_version() == RULE_VERSION
        with store.reading() as session:  # how unsure the U-Net is still decides the order
            measured = session.scalars(select(Proposal).where(Proposal.entropy.is_not(None))).all()
            assert {one.model_version for one in measured} == {
                f"unet-r{n + 1}" for n in range(number + 1)
            }
    rule = Scores(2, 0.9, 0.5, 0.9, 0.9, 0.9, 0.9)
    report = turn(2)
    assert desk.shown == report.model_version == "unet-r3"
    assert set(undecided().values()) == {"unet-r3"}
    assert Predictor(store).model_version() == "unet-r3"


def test_an_answer_is_compared_although_a_crash_came_in_between(
    store: Store, desk: Desk, proposed_by_rule: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, task = proposed_by_rule.project_id, rows(store)[1].task
    take_annotation(store, project, desk.submit(task, 1, answered(store, 1, 20)), Source.WEBHOOK)
    second = desk.submit(task, 2, answered(store, 1, 160))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("annotator.intake.compare_answers", killed)
        with pytest.raises(KeyboardInterrupt):
            take_annotation(store, project, second, Source.WEBHOOK)
    assert state(store, 1).status == Status.ADJUSTED
    sync_workplace(store, proposed_by_rule, no_bar)
    assert state(store, 1).status == Status.ADJUDICATE


def test_two_answers_that_are_left_of_three_are_compared(
    store: Store, desk: Desk, proposed_by_rule: Workplace
) -> None:
    task = rows(store)[1].task
    made = []
    for who, count in ((1, 20), (2, 22), (3, 160)):
        made.append(desk.submit(task, who, answered(store, 1, count))["id"])
        sync_workplace(store, proposed_by_rule, no_bar)
        assert state(store, 1).status == Status.ADJUSTED
    del desk.answers[task][made[1]]
    sync_workplace(store, proposed_by_rule, no_bar)
    assert state(store, 1).status == Status.ADJUDICATE


def test_a_task_that_is_deleted_while_a_round_is_made_keeps_its_answer(
    store: Store, desk: Desk, proposed_by_rule: Workplace
) -> None:
    task = rows(store)[1].task
    desk.submit(task, 5, answered(store, 1, 40))
    sync_workplace(store, proposed_by_rule, no_bar)
    painted = state(store, 1).mask_sha256
    desk.delete(task)  # after the sync that a round begins with
    send_proposals(store, proposed_by_rule, "unet-r1")
    sync_workplace(store, proposed_by_rule, no_bar)
    assert (state(store, 1).status, state(store, 1).mask_sha256) == (Status.ADJUSTED, painted)


def test_an_answer_that_comes_before_its_task_is_known_is_fetched_by_a_later_poll(
    store: Store,
    settings: Settings,
    desk: Desk,
    proposed_by_rule: Workplace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def connected(*_: object) -> Iterator[Workplace]:
        yield proposed_by_rule

    monkeypatch.setattr("annotator.sync_timer.connect", connected)
    poller = Poller(store, settings)
    known = rows(store)[1]
    with store.writing() as session:  # as while the tasks of a large project are being made
        session.delete(session.get_one(AnnotationTask, known.id))
    desk.submit(known.task, 5, answered(store, 1, 40))
    for _ in range(2):
        report = poller.poll()
        assert report is not None
        assert report.recorded == 0
    with store.writing() as session:
        session.add(
            AnnotationTask(project_id=known.project_id, task=known.task, pair_id=known.pair_id)
        )
    assert [getattr(poller.poll(), "recorded", None) for _ in range(2)] == [1, 0]
    assert state(store, 1).status == Status.ADJUSTED

"""Rounds against a real Label Studio: seeds to people, training, proposals, and no step twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotator.intake import project_row
from annotator.label_studio import LabelStudio
from annotator.locks import LockHeldError, held
from annotator.results import review_result
from annotator.rounds import (
    NothingNewError,
    RoundReport,
    SeedsMissingError,
    run_round,
    sync_workplace,
)
from annotator.server import LabelStudioServer
from annotator.workplace import Workplace
from dataset_engine import proposal_run
from dataset_engine.bootstrap_training import BootstrapSettings
from dataset_engine.given_model import is_taken
from dataset_engine.progress import Advance, silent
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.queries import status_report
from dataset_engine.store.tables import AnnotationTask, Image, Pair
from dataset_engine.stored_pairs import run_folder
from dataset_engine.taxonomy import Conflict
from models.checkpoint import CheckpointError
from models.refsel import RefSel, RefSelConfig

pytestmark = pytest.mark.slow

TINY = BootstrapSettings(
    steps=2, batch_size=2, workers=1, model=RefSelConfig(working_size=64, data_version="test")
)


@contextmanager
def no_bar(_: str) -> Iterator[Advance]:
    yield silent


@pytest.fixture
def workplace(
    store: Store, fill: Callable[..., None], label_studio: LabelStudio, request: Any
) -> Workplace:
    """A project of its own on the real server; 10 identities with 2 pairs each are in the store."""
    fill(identities=10)
    project = label_studio.ensure_project(f"rounds {request.node.name}"[:50])
    return Workplace(label_studio, "home", project, project_row(store, "home", project))


def annotate(store: Store, workplace: Workplace, pair_ids: list[int]) -> None:
    with store.reading() as session:
        tasks = {t.pair_id: t.task for t in session.query(AnnotationTask)}
        for pair_id in pair_ids:
            pair = session.get_one(Pair, pair_id)
            mask = store.mask(session.get_one(Image, pair.ref_id).region_sha256)
            mask[300:330] = False
            result = review_result(mask, frozenset({Conflict.MOUTH}), "accept")
            workplace.studio.submit_annotation(tasks[pair_id], result, 5.0)


def sent(store: Store) -> dict[int, str | None]:
    with store.reading() as session:
        return {t.pair_id: t.predicted_version for t in session.query(AnnotationTask)}


def test_rounds_from_seeds_to_the_second_u_net(
    store: Store, settings: Settings, workplace: Workplace
) -> None:
    def turn() -> Any:
        return run_round(store, workplace, settings, seed_count=10, training=TINY, bar=no_bar)

    with pytest.raises(SeedsMissingError, match=r"0 of 10 .* 10 are missing") as missing:
        turn()
    assert missing.value.missing == 10
    seeds = sorted(sent(store))
    assert len(seeds) == 10
    assert set(sent(store).values()) == {"rule-1"}

    annotate(store, workplace, seeds[:9])
    with pytest.raises(SeedsMissingError, match=r"9 of 10"):
        turn()
    annotate(store, workplace, seeds[9:])
    first = turn()
    assert (first.number, first.model_version, first.proposed, first.sent) == (1, "unet-r1", 10, 10)
    assert first.trained_on == 8
    assert first.metrics["unet"]["pairs"] == 2
    rest = sorted(set(sent(store)) - set(seeds))
    assert {sent(store)[pair] for pair in rest} == {"unet-r1"}
    task = workplace.studio.task(_task(store, rest[0]))
    assert [p["model_version"] for p in task["predictions"]] == ["unet-r1"]

    with pytest.raises(NothingNewError):
        turn()
    annotate(store, workplace, rest[:4])
    second = turn()
    assert (second.number, second.model_version, second.proposed) == (2, "unet-r2", 6)
    with store.reading() as session:
        report = status_report(session)
    assert report.pairs["adjusted"] == 14
    assert report.pairs["proposed"] == 6
    assert [round_["stage"] for round_ in report.rounds] == ["done", "done"]


def tasks_of(store: Store) -> dict[int, int]:
    with store.reading() as session:
        return {t.pair_id: t.task for t in session.query(AnnotationTask)}


def _task(store: Store, pair_id: int) -> int:
    with store.reading() as session:
        return session.query(AnnotationTask).filter_by(pair_id=pair_id).one().task


def test_a_round_that_broke_off_goes_on_where_it_stopped(
    store: Store, settings: Settings, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def turn(training: BootstrapSettings = TINY) -> Any:
        return run_round(store, workplace, settings, seed_count=5, training=training, bar=no_bar)

    with pytest.raises(SeedsMissingError):
        turn()
    annotate(store, workplace, sorted(sent(store)))

    real, monkeypatched = proposal_run.propose, monkeypatch.setattr

    def stops(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for count, proposal in enumerate(real(*args, **kwargs)):
            if count == 3:
                raise KeyboardInterrupt
            yield proposal

    monkeypatched(proposal_run, "STORE_EVERY", 2)
    monkeypatched(proposal_run, "propose", stops)
    with pytest.raises(KeyboardInterrupt):
        turn()
    with store.reading() as session:
        assert status_report(session).rounds[0]["stage"] == "proposing"
    monkeypatched(proposal_run, "propose", real)
    # a training that started over with these settings would fail: it must not start over
    report = turn(replace(TINY, learning_rate=float("nan")))
    assert report.number == 1
    assert report.proposed == 20 - 5 - 2
    assert report.sent == 15


def test_a_trained_refsel_takes_the_place_of_training(
    store: Store, settings: Settings, workplace: Workplace, tmp_path: Path
) -> None:
    def turn(model: Path | None = None) -> RoundReport:
        return run_round(
            store, workplace, settings, seed_count=5, training=TINY, bar=no_bar, model=model
        )

    models = [tmp_path / "one", tmp_path / "other"]
    for folder in models:
        RefSel(TINY.model).save_pretrained(folder)
    with pytest.raises(SeedsMissingError):
        turn(models[0])
    annotate(store, workplace, sorted(sent(store)))
    report = turn(models[0])
    assert (report.number, report.trained_on) == (1, 0)
    assert any(str(models[0]) in note for note in report.notes)
    assert report.proposed == 15
    assert is_taken(models[0], run_folder(store, "unet-r1"))
    with pytest.raises(NothingNewError):
        turn(models[0])
    assert turn(models[1]).number == 2
    with pytest.raises(CheckpointError, match="nowhere"):
        turn(tmp_path / "nowhere")


def test_asking_for_more_seeds_than_there_are_pairs_is_said(
    store: Store, settings: Settings, workplace: Workplace
) -> None:
    with pytest.raises(ValueError, match=r"only 20 pairs.*smaller --seed"):
        run_round(store, workplace, settings, seed_count=21, training=TINY, bar=no_bar)


def test_a_deleted_task_gets_a_new_one_and_the_version_is_shown_again(
    store: Store, settings: Settings, workplace: Workplace, label_studio_server: LabelStudioServer
) -> None:
    def turn() -> Any:
        return run_round(store, workplace, settings, seed_count=4, training=TINY, bar=no_bar)

    with pytest.raises(SeedsMissingError):
        turn()
    pair_id, task = sorted((t, n) for t, n in tasks_of(store).items())[0]
    token = {"Authorization": f"Token {label_studio_server.credentials.token}"}
    url = label_studio_server.url
    assert httpx.delete(f"{url}/api/tasks/{task}/", headers=token).is_success
    project = f"{url}/api/projects/{workplace.project}/"
    assert httpx.patch(project, json={"model_version": ""}, headers=token).is_success
    with pytest.raises(SeedsMissingError):
        turn()
    assert tasks_of(store)[pair_id] != task
    assert len(tasks_of(store)) == 4
    again = workplace.studio.task(tasks_of(store)[pair_id])
    assert [p["model_version"] for p in again["predictions"]] == ["rule-1"]
    assert httpx.get(project, headers=token).json()["model_version"] == "rule-1"


def test_a_second_round_at_the_same_time_is_refused(
    store: Store, settings: Settings, workplace: Workplace
) -> None:
    with (
        held(store.home / "bootstrap.lock", "busy"),
        pytest.raises(LockHeldError, match="another `engine bootstrap`"),
    ):
        run_round(store, workplace, settings, seed_count=4, training=TINY, bar=no_bar)


def test_sync_reads_the_real_server(store: Store, settings: Settings, workplace: Workplace) -> None:
    with pytest.raises(SeedsMissingError):
        run_round(store, workplace, settings, seed_count=4, training=TINY, bar=no_bar)
    annotate(store, workplace, sorted(sent(store))[:2])
    assert sync_workplace(store, workplace, no_bar).recorded == 2
    assert sync_workplace(store, workplace, no_bar).recorded == 0

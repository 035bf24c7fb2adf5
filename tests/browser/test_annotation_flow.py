"""The main job as a person does it: a proposal, a stroke, a verdict, and the mask is in the store."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from annotator.label_studio import LabelStudio
from annotator.rounds import SeedsMissingError, run_round, sync_workplace
from annotator.server import LabelStudioServer
from annotator.workplace import Workplace, open_workplace, start_service
from dataset_engine.bootstrap_training import BootstrapSettings
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.parts import Part, facial_parts
from dataset_engine.ingest import ingest
from dataset_engine.progress import Advance, silent
from dataset_engine.sample import write_sample
from dataset_engine.settings import Settings
from dataset_engine.shards import RefSelShards, write_version
from dataset_engine.store import Store
from dataset_engine.store.queries import latest_proposal, reviewed_triplets
from dataset_engine.store.tables import AnnotationTask, Event, Identity, Image, Pair, PairState
from dataset_engine.taxonomy import Conflict, Status

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FACES = os.environ.get("REFSTAR_FACES")
PICTURES = os.environ.get("REFSTAR_SCREENSHOTS")
STROKE = [(190.0, 380.0), (256.0, 392.0), (322.0, 380.0)]
"""Over the mouth of an aligned face, in pixels of the reference."""


@contextmanager
def no_bar(_: str) -> Iterator[Advance]:
    yield silent


@pytest.fixture(scope="module")
def shared_home(
    label_studio_server: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Settings]:
    """A home whose images the server may show, with rendered people in it, and real ones if any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        home=label_studio_server.document_root.parent,
        label_studio_url=label_studio_server.url,
        label_studio_token=SecretStr(label_studio_server.credentials.token),
        label_studio_project="Annotation flow",
        service_port=port,
        service_url=f"http://127.0.0.1:{port}",
    )
    store = Store(settings)
    rendered = tmp_path_factory.mktemp("rendered")
    write_sample(rendered, identities=2, shots=4, seed=5)
    ingest(store, settings, rendered, workers=1)
    if FACES:
        ingest(store, settings, Path(FACES), workers=1)
    return store, settings


@pytest.fixture
def service(shared_home: tuple[Store, Settings]) -> Iterator[Any]:
    store, settings = shared_home
    process = start_service(store.home, settings)
    yield process
    process.close()


@pytest.fixture
def workplace(
    shared_home: tuple[Store, Settings], service: Any, label_studio: LabelStudio
) -> Iterator[Workplace]:
    """The prepared project, with every pair sent as a seed."""
    store, settings = shared_home
    assert service.running
    assert label_studio.url == settings.label_studio_url
    with open_workplace(store, settings, lambda _: None) as opened:
        with store.reading() as session:
            count = len(session.scalars(select(Pair)).all())
        with pytest.raises(SeedsMissingError):
            run_round(
                store,
                opened,
                settings,
                seed_count=count,
                training=BootstrapSettings(),
                bar=no_bar,
            )
        yield opened


def next_open_pair(store: Store, source: str) -> tuple[int, int]:
    """An undecided pair of a rendered or a real identity, and its task."""
    with store.reading() as session:
        row = session.execute(
            select(Pair.id, AnnotationTask.task)
            .join(PairState, PairState.pair_id == Pair.id)
            .join(AnnotationTask, AnnotationTask.pair_id == Pair.id)
            .join(Identity, Identity.id == Pair.identity_id)
            .where(
                PairState.status == Status.PROPOSED,
                Identity.name.startswith("sample-")
                if source == "rendered"
                else Identity.name.startswith("person-"),
            )
            .order_by(Pair.id)
        ).first()
    assert row is not None
    return int(row[0]), int(row[1])


def paint(studio_page: Any, workplace: Workplace, task: int, picture: str = "") -> dict[str, Any]:
    studio_page.open_task(workplace.project, task)
    assert [region["label"] for region in studio_page.regions()] == ["consistent"]
    studio_page.take_label("conflict")
    studio_page.stroke(STROKE)
    studio_page.choose("mouth")
    studio_page.choose("accept")
    if PICTURES and picture:
        studio_page.screenshot(Path(PICTURES) / picture)
    return dict(studio_page.submit())


def test_a_click_toggles_a_whole_part_of_the_reference(
    workplace: Workplace, shared_home: tuple[Store, Settings], studio_page: Any, tmp_path: Path
) -> None:
    store, _ = shared_home
    pair_id, task = next_open_pair(store, "rendered")
    with store.reading() as session:
        pair = session.get_one(Pair, pair_id)
        reference, region = pair.ref, store.mask(pair.ref.region_sha256)
        proposal = latest_proposal(session, pair_id)
    assert proposal is not None
    kept = store.mask(proposal.mask_sha256)
    landmarks = Landmarks(store).of(reference)
    assert landmarks is not None
    parts = facial_parts(landmarks, region)
    nose, cheek = parts[Part.NOSE], parts[Part.LEFT_CHEEK]
    studio_page.auto_annotate()
    studio_page.open_task(workplace.project, task)

    studio_page.click_part(*_middle(nose))
    assert _labels(studio_page) == {"consistent": "consistent", "click-nose": "conflict"}
    studio_page.click_part(*_middle(cheek))
    if PICTURES:
        studio_page.screenshot(Path(PICTURES) / "clicked.png")
    studio_page.click_part(*_middle(cheek))
    expected = {"click-nose": "conflict", "click-left-cheek": "consistent"}
    assert _labels(studio_page) == {"consistent": "consistent"} | expected

    studio_page.choose("accept")
    stored = studio_page.submit()
    state = await_status(store, pair_id, 10)
    assert state.status == Status.ADJUSTED
    assert [r["type"] for r in stored["result"]].count("brushlabels") == 3
    assert np.array_equal(store.mask(str(state.mask_sha256)), (kept | cheek) & ~nose)


def _middle(area: Any) -> tuple[float, float]:
    """A pixel well inside an area."""
    away = cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(away.argmax()), away.shape)
    return float(column) + 0.5, float(row) + 0.5


def _labels(studio_page: Any) -> dict[str, str]:
    return {r["id"].split("#")[0]: r["label"] for r in studio_page.regions()}


def await_status(store: Store, pair_id: int, seconds: float) -> PairState:
    deadline = time.monotonic() + seconds
    while True:
        with store.reading() as session:
            state = session.get_one(PairState, pair_id)
        if state.status != Status.PROPOSED or time.monotonic() > deadline:
            return state
        time.sleep(0.05)


def region_of(store: Store, pair_id: int) -> Any:
    with store.reading() as session:
        pair = session.get_one(Pair, pair_id)
        return store.mask(session.get_one(Image, pair.ref_id).region_sha256)


def proposed_mask(store: Store, pair_id: int) -> str | None:
    with store.reading() as session:
        proposal = latest_proposal(session, pair_id)
    return None if proposal is None else proposal.mask_sha256


def check_painted(store: Store, pair_id: int, state: PairState) -> Any:
    """The final mask is the proposal without what was painted."""
    region, mask = region_of(store, pair_id), store.mask(str(state.mask_sha256))
    proposed = store.mask(str(proposed_mask(store, pair_id)))
    removed = proposed & ~mask
    assert not (mask & ~(region & proposed)).any()
    assert removed.sum() < 20_000
    if removed.any():
        rows, columns = np.nonzero(removed)
        assert 340 < rows.min() < rows.max() < 440
        assert 160 < columns.min() < columns.max() < 350
    assert not mask[386, 240:272].any()
    assert state.status in (Status.ADJUSTED, Status.ACCEPTED)
    assert Conflict.MOUTH in state.conflicts
    return mask


@pytest.mark.parametrize("source", ["rendered", "photographs"])
@pytest.mark.parametrize("attempt", range(int(os.environ.get("REFSTAR_REPEAT", "1"))))
def test_a_painted_conflict_is_in_the_store_two_seconds_after_the_submit(
    shared_home: tuple[Store, Settings],
    workplace: Workplace,
    studio_page: Any,
    tmp_path: Path,
    source: str,
    attempt: int,
) -> None:
    if source == "photographs" and not FACES:
        pytest.skip("REFSTAR_FACES names no folder of photographs")
    store, _ = shared_home
    pair_id, task = next_open_pair(store, source)
    stored = paint(studio_page, workplace, task, f"annotation-{source}-{attempt}.png")
    state = await_status(store, pair_id, seconds=2.0)
    mask = check_painted(store, pair_id, state)
    with store.reading() as session:
        event = session.scalars(select(Event).where(Event.pair_id == pair_id)).one()
        key = session.get_one(Pair, pair_id).key
    assert (event.annotation, event.source) == (stored["id"], "webhook")
    assert event.mask_after == state.mask_sha256
    assert event.mask_before == proposed_mask(store, pair_id)

    write_version(reviewed_triplets(store), tmp_path / "out")
    split = next(t.split for t in reviewed_triplets(store) if t.key == key)
    exported = {sample.key: sample for sample in RefSelShards(tmp_path / "out", split)}
    assert np.array_equal(exported[key].mask, mask)
    assert set(exported[key].conflicts) == state.conflicts


def test_a_submit_that_the_dead_service_missed_is_recovered_by_a_sync(
    shared_home: tuple[Store, Settings],
    workplace: Workplace,
    service: Any,
    studio_page: Any,
) -> None:
    store, _ = shared_home
    pair_id, task = next_open_pair(store, "rendered")
    service.close()
    paint(studio_page, workplace, task)
    assert await_status(store, pair_id, seconds=1.0).status == Status.PROPOSED
    assert sync_workplace(store, workplace, no_bar).recorded == 1
    check_painted(store, pair_id, await_status(store, pair_id, seconds=0.0))
    assert sync_workplace(store, workplace, no_bar).recorded == 0

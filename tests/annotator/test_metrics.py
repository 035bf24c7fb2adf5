"""`/metrics` counts what happened, for those who may look, and names nobody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from annotator.secrets import home_secrets
from annotator.service import whole_service
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import propose_face_region
from dataset_engine.store.queries import undecided
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import now


@pytest.fixture
def filled(store: Store, fill: Callable[..., None]) -> Store:
    """Six pairs with a proposal each."""
    fill(identities=3)
    propose_face_region(store, list(undecided(store)))
    return store


@pytest.fixture
def client(filled: Store, settings: Settings) -> Iterator[TestClient]:
    with TestClient(
        whole_service(filled, settings, "127.0.0.1"), base_url="http://127.0.0.1"
    ) as opened:
        yield opened


def figures(client: TestClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in lines}


def accept(store: Store, pair_id: int, source: Source, seconds_ago: float) -> None:
    record(
        store,
        Decision(
            pair_id=pair_id,
            project_id=None,
            annotation=None,
            updated_at=now() - timedelta(seconds=seconds_ago),
            kind=EventKind.SUBMITTED,
            source=source,
            actor="anna",
            accepted=False,
            mask=None,
            conflicts=frozenset(),
        ),
    )


def test_the_queue_and_the_proposals_are_the_stores(client: TestClient) -> None:
    found = figures(client)
    assert found["refstar_queue_depth"] == 6
    assert found["refstar_proposals_total"] == 6
    assert found["refstar_webhooks_waiting"] == 0
    assert found['refstar_pairs{status="proposed"}'] == 6


def test_each_review_is_counted_once_with_how_late_it_came(
    client: TestClient, filled: Store
) -> None:
    figures(client)
    accept(filled, 1, Source.WEBHOOK, 2.0)
    accept(filled, 2, Source.SYNC, 100.0)
    for _ in range(2):
        found = figures(client)
        assert found['refstar_reviews_total{source="webhook",status="rejected"}'] == 1
        assert found['refstar_reviews_total{source="sync",status="rejected"}'] == 1
        assert found['refstar_sync_lag_seconds_bucket{le="1.0",source="webhook"}'] == 0
        assert found['refstar_sync_lag_seconds_bucket{le="3.0",source="webhook"}'] == 1
        assert 100 <= found['refstar_sync_lag_seconds_sum{source="sync"}'] < 110
        assert found["refstar_queue_depth"] == 4


def test_requests_are_counted_by_route_and_never_by_what_was_asked_for(client: TestClient) -> None:
    client.get("/health")
    client.get("/pictures/somebody/gt.jpg")
    client.get("/nowhere/anna")
    found = figures(client)
    assert found['refstar_requests_total{method="GET",route="/health",status="200"}'] == 1
    assert found['refstar_requests_total{method="other",route="other",status="404"}'] == 1
    assert not [name for name in found if "anna" in name or "somebody" in name]
    assert any(re.search(r'route="/pictures/\{key\}', name) for name in found)


def test_elsewhere_only_the_token_or_a_session_opens_it(filled: Store, settings: Settings) -> None:
    app = whole_service(filled, settings, "0.0.0.0")
    token = home_secrets(filled.home).metrics_token
    with TestClient(app) as client:
        assert client.get("/metrics").status_code == 401
        for given in ("", "Bearer ", f"Bearer {token}x", f"Basic {token}", token):
            headers = {"Authorization": given}
            assert client.get("/metrics", headers=headers).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/metrics", headers=headers).status_code == 200

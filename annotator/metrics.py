"""`/metrics` in Prometheus' form: requests, the queue, proposals, reviews, and how late they arrive.

Requests are counted as they are answered. Everything else is asked of the store at a scrape, since the
rows come from other processes, too. Reviews are counted from the start of the service on; Prometheus
makes rates of all that ends in ``_total``. On PostgreSQL a review that is committed after a later one
was scraped is not counted.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from threading import Lock

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotator.review.access import Access
from dataset_engine.store import Store
from dataset_engine.store.queries import row_counts
from dataset_engine.store.reviews import EventKind
from dataset_engine.store.tables import Event, PairState, Proposal
from dataset_engine.taxonomy import Status

LAG_S = (0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""Bounds of the histogram of how late reviews arrive, seconds."""
REQUEST_S = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
OTHER = "other"
"""The route of requests that no route takes, so that nobody can make up names."""


def add_metrics(
    app: FastAPI, store: Store, access: Access, token: str, waiting: Callable[[], int]
) -> None:
    """Count the service's requests from now on, and serve `/metrics`.

    Args:
        app: the service.
        store: the store.
        access: who may look without the token.
        token: lets a program in that sends it as ``Authorization: Bearer TOKEN``.
        waiting: how many webhooks are acknowledged and not applied yet.
    """
    registry = CollectorRegistry()
    registry.register(StoreFigures(store, waiting))
    app.add_middleware(RequestCounts, registry=registry)
    router = APIRouter()

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        """Figures for Prometheus: for who may see the pages, and who sends the metrics token."""
        given = request.headers.get("authorization", "")
        if given:
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise HTTPException(401, "the metrics token is wrong")
        else:
            access.may_look(request)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(router)


class RequestCounts:
    """ASGI middleware that counts and times requests by their route, never by their path."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "refstar_requests",
            "Requests answered, by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "refstar_request_seconds",
            "Time to the end of an answer, seconds.",
            ["route"],
            buckets=REQUEST_S,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and count it whatever becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        begun = time.perf_counter()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if route != OTHER else OTHER
            self._requests.labels(method, route, status).inc()
            self._seconds.labels(route).observe(time.perf_counter() - begun)


class StoreFigures(Collector):
    """Asks the store at each scrape.

    Args:
        store: the store.
        waiting: see `add_metrics`.
    """

    def __init__(self, store: Store, waiting: Callable[[], int]) -> None:
        self._store = store
        self._waiting = waiting
        self._lock = Lock()
        self._reviews = Counter(
            "refstar_reviews",
            "Reviews recorded since the service began, by decision and by how they came.",
            ["status", "source"],
            registry=None,
        )
        self._lag = Histogram(
            "refstar_sync_lag_seconds",
            "From a person's decision to its row in the store, seconds.",
            ["source"],
            buckets=LAG_S,
            registry=None,
        )
        with store.reading() as session:
            self._newest = session.scalar(select(func.max(Event.id))) or 0

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the store at a registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The store's figures as they are now."""
        with self._lock:
            self._count_new_reviews()
        yield from self._reviews.collect()
        yield from self._lag.collect()
        with self._store.reading() as session:
            pairs = row_counts(session, PairState)
            proposals = row_counts(session, Proposal)
        by_status = GaugeMetricFamily("refstar_pairs", "Pairs, by status.", labels=["status"])
        for status in Status:
            by_status.add_metric([status], pairs[status])
        yield by_status
        yield GaugeMetricFamily(
            "refstar_queue_depth",
            "Pairs that have a proposal and wait for a person.",
            value=pairs[Status.PROPOSED],
        )
        yield GaugeMetricFamily(
            "refstar_webhooks_waiting",
            "Webhooks that are acknowledged and not applied yet.",
            value=self._waiting(),
        )
        yield CounterMetricFamily(
            "refstar_proposals", "Proposals in the store.", value=proposals.total()
        )

    def _count_new_reviews(self) -> None:
        query = (
            select(Event.id, Event.status, Event.source, Event.at, Event.annotation_updated_at)
            .where(Event.id > self._newest, Event.kind == EventKind.SUBMITTED)
            .order_by(Event.id)
        )
        with self._store.reading() as session:
            for number, status, source, at, made_at in session.execute(query):
                self._newest = number
                self._reviews.labels(status, source).inc()
                self._lag.labels(source).observe(max((at - made_at).total_seconds(), 0.0))

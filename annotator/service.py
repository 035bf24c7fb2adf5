"""The pre-annotation service: Label Studio's ML-backend contract, and its webhook.

``/health``, ``/setup`` and ``/predict`` are what Label Studio calls; ``/webhook`` takes annotations in
and answers once they are in the database. Nothing trains inside a request. `serve` adds the pages that
people review with.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from annotator.body_limit import BodyLimit
from annotator.intake import (
    HOME_SERVER,
    Taken,
    UnknownTaskError,
    number_in,
    take_annotation,
    take_deletion,
)
from annotator.label_studio import SECRET_HEADER
from annotator.prediction import Predictor, TaskError
from annotator.results import AnnotationError
from annotator.review.application import add_review_pages
from annotator.secrets import home_secrets
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.reviews import Source
from dataset_engine.store.tables import AnnotationProject

SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")


class PredictRequest(BaseModel):
    """What Label Studio posts to `/predict`; parts that the service does not use are let through."""

    model_config = ConfigDict(extra="allow")

    tasks: list[dict[str, Any]] = Field(max_length=1000)


class WebhookRequest(BaseModel):
    """What Label Studio posts to `/webhook`."""

    model_config = ConfigDict(extra="allow")

    action: str
    project: dict[str, Any]
    annotation: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)


def create_app(store: Store, server: str, secret: str, body_limit: int) -> FastAPI:
    """Build the service.

    Args:
        store: the store.
        server: the Label Studio server whose webhooks are taken (see `AnnotationProject.server`).
        secret: value that the webhook's ``X-Refstar-Secret`` header must have.
        body_limit: largest request body, bytes.
    """
    predictor = Predictor(store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(predictor.warm_up)
        yield

    # a description of the service is nobody's business, and its page would load foreign scripts
    app = FastAPI(title="RefSTAR pre-annotation service", lifespan=lifespan, openapi_url=None)
    app.add_middleware(BodyLimit, limit=body_limit)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_version": predictor.model_version()}

    @app.post("/setup")
    def setup() -> dict[str, str]:
        return {"model_version": predictor.model_version()}

    @app.post("/predict")
    def predict(request: PredictRequest) -> dict[str, Any]:
        try:
            return {"results": predictor.predict(request.tasks)}
        except TaskError as error:
            raise HTTPException(422, str(error)) from error

    @app.post("/webhook")
    def webhook(
        request: WebhookRequest,
        x_refstar_secret: Annotated[str | None, Header(alias=SECRET_HEADER)] = None,
    ) -> dict[str, Any]:
        if not hmac.compare_digest((x_refstar_secret or "").encode(), secret.encode()):
            raise HTTPException(403, f"the {SECRET_HEADER} header is missing or wrong")
        try:
            project_id = _project_id(store, server, number_in(request.project, "id"))
            taken, refused = _take(store, project_id, request)
        except UnknownTaskError as error:
            raise HTTPException(404, str(error)) from error
        except AnnotationError as error:
            raise HTTPException(422, str(error)) from error
        unusable = [one.unusable for one in taken if one.unusable]
        if unusable or refused:
            unknown = all(isinstance(error, UnknownTaskError) for error in refused)
            detail = "; ".join([*unusable, *map(str, refused)])
            raise HTTPException(404 if refused and unknown and not unusable else 422, detail)
        return {
            "taken": [{"new": one.recorded.new, "status": one.recorded.status} for one in taken]
        }

    return app


def serve(store: Store, settings: Settings, host: str, port: int) -> None:
    """Run the service until it is told to stop; access logs name paths, never headers or bodies."""
    secrets = home_secrets(store.home)
    app = create_app(
        store,
        settings.label_studio_url or HOME_SERVER,
        secrets.webhook_secret,
        settings.body_limit,
    )
    add_review_pages(app, store, settings, secrets, host)
    uvicorn.run(app, host=host, port=port, log_level="info")


def _take(
    store: Store, project_id: int, request: WebhookRequest
) -> tuple[list[Taken], list[Exception]]:
    """Take everything that a webhook brings; what is refused does not keep the rest from being taken."""
    if request.action in SUBMITTED and request.annotation is not None:
        items, take = [request.annotation], _take_submitted
    elif request.action == "ANNOTATIONS_CREATED":
        items, take = request.annotations, _take_submitted
    elif request.action == "ANNOTATIONS_DELETED":
        items, take = request.annotations, _take_deleted
    else:
        raise AnnotationError(f"action {request.action[:40]!r} is not one that the engine takes")
    taken: list[Taken] = []
    refused: list[Exception] = []
    for item in items:
        try:
            taken.append(take(store, project_id, item))
        except (UnknownTaskError, AnnotationError) as error:
            refused.append(error)
    return taken, refused


def _take_submitted(store: Store, project_id: int, annotation: dict[str, Any]) -> Taken:
    return take_annotation(store, project_id, annotation, Source.WEBHOOK)


def _take_deleted(store: Store, project_id: int, annotation: dict[str, Any]) -> Taken:
    return take_deletion(store, project_id, number_in(annotation, "id"), Source.WEBHOOK)


def _project_id(store: Store, server: str, project: int) -> int:
    with store.reading() as session:
        row = session.scalars(
            select(AnnotationProject.id)
            .where(AnnotationProject.server == server, AnnotationProject.project == project)
            .order_by(AnnotationProject.id.desc())
            .limit(1)
        ).first()
    if row is None:
        raise UnknownTaskError(f"project {project} is not one of this engine's")
    return row

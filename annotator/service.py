"""The pre-annotation service: Label Studio's ML-backend contract, and its webhook.

``/health``, ``/setup`` and ``/predict`` are what Label Studio calls; ``/webhook`` takes annotations in
and answers once they are in the inbox, from which they are recorded one after another. Nothing trains
inside a request. `serve` adds the pages that people review with, and a sync every now and then.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotator.backend_access import LOOPBACK, BackendAccess
from annotator.body_limit import BodyLimit
from annotator.inbox import Inbox
from annotator.intake import HOME_SERVER, UnknownTaskError, known_project
from annotator.label_studio import SECRET_HEADER
from annotator.metrics import add_metrics
from annotator.prediction import Predictor, TaskError
from annotator.results import AnnotationError
from annotator.review.access import Access
from annotator.review.address import only_here, review_signer
from annotator.review.application import add_review_pages
from annotator.secrets import home_secrets
from annotator.service_log import log_config
from annotator.sync_timer import SyncTimer
from annotator.webhook import apply_webhook, read_webhook
from dataset_engine.settings import Settings
from dataset_engine.store import Store


class PredictRequest(BaseModel):
    """What Label Studio posts to `/predict`; parts that the service does not use are let through."""

    model_config = ConfigDict(extra="allow")

    tasks: list[dict[str, Any]] = Field(max_length=1000)
    project: str = Field("", pattern=r"^([0-9]{1,9}(\.[0-9]*)?)?$")
    params: dict[str, Any] | None = None


def create_app(
    store: Store,
    server: str,
    secret: str,
    body_limit: int,
    access: BackendAccess = LOOPBACK,
) -> FastAPI:
    """Build the service.

    Args:
        store: the store.
        server: the Label Studio server whose webhooks are taken (see `AnnotationProject.server`).
        secret: value that the webhook's ``X-Refstar-Secret`` header must have.
        body_limit: largest request body, bytes.
        access: who may ask for proposals; everybody where only this machine can reach the service.
    """
    predictor = Predictor(store)
    inbox = Inbox(store.home / "inbox", partial(apply_webhook, store, server))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(predictor.warm_up)
        inbox.start()
        yield
        await run_in_threadpool(inbox.close)

    # a description of the service is nobody's business, and its page would load foreign scripts
    app = FastAPI(title="RefSTAR pre-annotation service", lifespan=lifespan, openapi_url=None)
    app.add_middleware(BodyLimit, limit=body_limit)
    app.state.inbox = inbox

    @app.get("/health", dependencies=[Depends(access.may_ask_for_health)])
    def health() -> dict[str, str]:
        """Whether the service is up, and which model version proposes."""
        return {"status": "UP", "model_version": predictor.model_version()}

    @app.post("/setup", dependencies=[Depends(access.may_ask)])
    def setup() -> dict[str, str]:
        """Take the backend in: the model version, as Label Studio asks for it."""
        return {"model_version": predictor.model_version()}

    @app.post("/predict", dependencies=[Depends(access.may_ask)])
    def predict(request: PredictRequest) -> dict[str, Any]:
        """A proposal for each task, in order."""
        try:
            if request.project:
                # whoever makes a project of their own must not see faces of this one in it
                known_project(store, server, int(request.project.partition(".")[0]))
            return {"results": predictor.predict(request.tasks, request.params)}
        except UnknownTaskError as error:
            raise HTTPException(403, str(error)) from error
        except TaskError as error:
            raise HTTPException(422, str(error)) from error

    @app.post("/webhook", status_code=202)
    async def webhook(request: Request) -> dict[str, Any]:
        """Take what people submitted, changed or deleted in Label Studio."""
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), secret.encode()):
            raise HTTPException(403, f"the {SECRET_HEADER} header is missing or wrong")
        body = await request.body()
        try:
            await run_in_threadpool(read_webhook, body)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            raise HTTPException(422, faults) from error
        except AnnotationError as error:
            raise HTTPException(422, str(error)) from error
        await run_in_threadpool(inbox.put, body)
        return {}

    return app


def whole_service(store: Store, settings: Settings, host: str) -> FastAPI:
    """Everything that `engine serve` answers: Label Studio, the review pages, `/metrics`.

    Args:
        store: the store.
        settings: see `Settings`.
        host: address that the service binds to: on any but loopback, people have to sign in.
    """
    secrets = home_secrets(store.home)
    app = create_app(
        store,
        settings.label_studio_url or HOME_SERVER,
        secrets.webhook_secret,
        settings.body_limit,
        BackendAccess(secrets.service_password, only_here(host, settings.review_url)),
    )
    add_review_pages(app, store, settings, secrets, host)
    watchers = Access(review_signer(secrets), host, settings.review_url)
    add_metrics(app, store, watchers, secrets.metrics_token, app.state.inbox.waiting)
    return app


def serve(store: Store, settings: Settings, host: str, port: int) -> None:
    """Run the service until it is told to stop; access logs name paths, never headers or bodies."""
    app = whole_service(store, settings, host)
    with SyncTimer(store, settings):
        uvicorn.run(app, host=host, port=port, log_config=log_config(settings))

"""Putting the review pages into the service."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from annotator.intake import HOME_SERVER
from annotator.review.access import Access
from annotator.review.address import review_signer
from annotator.review.brush_page import brush_page
from annotator.review.decisions import decision_routes
from annotator.review.headers import SafeHeaders
from annotator.review.pages import page_routes, session_routes
from annotator.review.progress import progress_routes
from annotator.review.showing import card_routes, picture_routes
from annotator.secrets import HomeSecrets
from dataset_engine.settings import Settings
from dataset_engine.store import Store


def add_review_pages(
    app: FastAPI, store: Store, settings: Settings, secrets: HomeSecrets, host: str
) -> None:
    """Serve `/review`, `/pairs/KEY`, `/progress` and what they need.

    Args:
        app: the service.
        store: the store.
        settings: where Label Studio is, how people reach the pages, what the work aims at.
        secrets: password and key of sessions.
        host: address that the service binds to: on any but loopback, people have to sign in.
    """
    access = Access(review_signer(secrets), host, settings.review_url)
    brush = partial(
        brush_page,
        store,
        settings.label_studio_url or HOME_SERVER,
        settings.label_studio_public_url or settings.label_studio_url,
    )
    app.add_middleware(SafeHeaders)
    app.include_router(page_routes(store, access, brush, settings.review_target))
    app.include_router(session_routes(access))
    app.include_router(card_routes(store, access))
    app.include_router(picture_routes(store, access))
    app.include_router(decision_routes(store, access))
    app.include_router(progress_routes(store, access, settings.review_target))

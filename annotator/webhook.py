"""What Label Studio posts to `/webhook`: checked when it comes, applied from the inbox."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from annotator.inbox import Refused
from annotator.intake import (
    Taken,
    UnknownTaskError,
    checked_annotation,
    known_project,
    number_in,
    take_annotation,
    take_deletion,
)
from annotator.results import AnnotationError
from dataset_engine.store import BlobError, Store
from dataset_engine.store.reviews import Source

SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"

log = logging.getLogger(__name__)


class WebhookRequest(BaseModel):
    """What Label Studio posts to `/webhook`."""

    model_config = ConfigDict(extra="ignore")

    action: str
    project: dict[str, Any]
    annotation: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)


def read_webhook(body: bytes) -> WebhookRequest:
    """Read a webhook's body, and see that it says what happened to which annotations.

    Raises:
        pydantic.ValidationError: it is not of the form.
        AnnotationError: it names another action, or none of its annotations has id, task and time.
    """
    request = WebhookRequest.model_validate_json(body)
    number_in(request.project, "id")
    annotations = _annotations(request)
    faults: list[AnnotationError] = []
    for annotation in annotations:
        try:
            number_in(annotation, "id")
            if request.action != DELETED:
                checked_annotation(annotation)
        except AnnotationError as error:
            faults.append(error)
    if faults and len(faults) == len(annotations):
        raise faults[0]
    return request


def apply_webhook(store: Store, server: str, body: bytes) -> list[Taken]:
    """Record everything that a webhook brings; what is refused does not keep the rest from counting.

    Args:
        store: the store.
        server: the Label Studio server whose webhooks are taken (see `AnnotationProject.server`).
        body: what was posted.

    Raises:
        Refused: some of it cannot be recorded; the message says why.
    """
    try:
        request = read_webhook(body)
        project_id = known_project(store, server, number_in(request.project, "id"))
    except (ValueError, UnknownTaskError) as error:
        raise Refused(str(error)) from error
    taken: list[Taken] = []
    refused: list[str] = []
    for annotation in _annotations(request):
        try:
            if request.action == DELETED:
                number = number_in(annotation, "id")
                taken.append(take_deletion(store, project_id, number, Source.WEBHOOK))
            else:
                taken.append(take_annotation(store, project_id, annotation, Source.WEBHOOK))
        except (UnknownTaskError, AnnotationError, BlobError) as error:
            refused.append(str(error))
    for one in taken:
        if one.unusable:
            log.warning("an annotation was recorded as unusable: %s", one.unusable)
    if refused:
        raise Refused("; ".join(refused))
    return taken


def _annotations(request: WebhookRequest) -> list[dict[str, Any]]:
    if request.action in SUBMITTED and request.annotation is not None:
        return [request.annotation]
    if request.action in ("ANNOTATIONS_CREATED", DELETED):
        return request.annotations
    raise AnnotationError(f"action {request.action[:40]!r} is not one that the engine takes")

"""What the pages send: clicks, in the order in which they were made, each applied once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from annotator.review.access import Access
from annotator.review.merging import Merge, merged
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import (
    Outcome,
    PageReview,
    PageReviewError,
    record_page_review,
    take_back,
)
from dataset_engine.store.review_queries import pair_faces
from dataset_engine.store.tables import now
from dataset_engine.taxonomy import Conflict

MOST = 50
"""Clicks in one request."""
MONTH = 31 * 24 * 3600.0

ClickId = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{8,64}$")]


class Click(BaseModel):
    """One decision, or its undoing.

    Attributes:
        click: made by the page, so that a request that is sent again counts once.
        act: what was decided; ``restore`` accepts a mask of the pair's history.
        mask: the mask that was shown, by its hash.
        other: the mask that ``merge`` makes one mask of with it.
        how: how it does that.
        undone: the click that ``undo`` takes back.
        age: seconds since the click, by the browser's own clock: neither a request that had to wait
            nor a clock that is wrong changes which of two decisions came later.
        seconds: how long the person looked at the pair.
    """

    model_config = ConfigDict(extra="forbid")

    click: ClickId
    act: Literal["accept", "reject", "restore", "merge", "undo"]
    pair: str = Field(max_length=40)
    mask: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    other: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    how: Merge | None = None
    conflicts: frozenset[Conflict] = frozenset()
    undone: ClickId | None = None
    age: float = Field(ge=0, le=MONTH)
    seconds: float | None = Field(default=None, ge=0, le=MONTH)


class Clicks(BaseModel):
    """What one request brings."""

    model_config = ConfigDict(extra="forbid")

    clicks: list[Click] = Field(min_length=1, max_length=MOST)


def decision_routes(store: Store, access: Access) -> APIRouter:
    """`POST /review/decisions`: records clicks; a refused one does not keep the others from counting."""
    router = APIRouter(dependencies=[Depends(access.may_decide)])

    @router.post("/review/decisions")
    def decide(request: Request, body: Clicks) -> dict[str, Any]:
        """Record clicks; a refused one does not keep the others from counting."""
        actor = f"review:{access.reviewer(request)}"
        return {"results": [_apply(store, click, actor) for click in body.clicks]}

    return router


def _apply(store: Store, click: Click, actor: str) -> dict[str, Any]:
    try:
        outcome = _record(store, click, actor)
    except PageReviewError as error:
        return {"click": click.click, "refused": str(error)}
    return {
        "click": click.click,
        "new": outcome.new,
        "status": outcome.status,
        "mask": outcome.mask_sha256,
        "conflicts": sorted(outcome.conflicts),
    }


def _record(store: Store, click: Click, actor: str) -> Outcome:
    if click.act == "merge":
        return _merge(store, click, actor)
    if click.act == "undo":
        return take_back(store, click.click, click.undone or "", actor)
    review = PageReview(
        click=click.click,
        pair=click.pair,
        accepted=click.act != "reject",
        mask_sha256=click.mask,
        actor=actor,
        made_at=now() - timedelta(seconds=click.age),
        conflicts=click.conflicts,
        seconds=click.seconds,
        detail="restored from the history" if click.act == "restore" else "",
    )
    return record_page_review(store, review)


def _merge(store: Store, click: Click, actor: str) -> Outcome:
    """Record a new mask that is made of two people's; both of theirs stay."""
    if click.mask is None or click.other is None or click.how is None:
        raise PageReviewError("a merge needs two masks, and how they become one")
    with store.reading() as session:
        faces = pair_faces(session, click.pair)
    if faces is None or not {click.mask, click.other} <= faces.masks:
        raise PageReviewError(f"pair {click.pair} has never had these masks")
    mask = merged(store.mask(click.mask), store.mask(click.other), click.how)
    review = PageReview(
        click=click.click,
        pair=click.pair,
        accepted=True,
        mask_sha256=store.put_mask(mask),
        actor=actor,
        made_at=now() - timedelta(seconds=click.age),
        conflicts=click.conflicts,
        seconds=click.seconds,
        detail=f"merged: what {click.how} of two masks keep",
        merged=True,
    )
    return record_page_review(store, review)

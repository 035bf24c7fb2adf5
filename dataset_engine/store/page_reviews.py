"""Reviews made on the engine's own pages, beside those made in Label Studio.

A click on a page is to the store what an annotation is: an event that counts by the moment at which it
was made, so that of a click and an annotation of the same pair the later one wins, whichever arrives
first, and a sync of an older annotation changes nothing. Undoing a click is what deleting an annotation
is: a further event, after which the pair is again what it would be without the click.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dataset_engine.store.database import Store
from dataset_engine.store.reviews import EventKind, derive, lock
from dataset_engine.store.tables import AnnotationProject, Event, Pair, PairState, Proposal
from dataset_engine.taxonomy import Conflict, Status

PAGES = "review-pages"
"""`AnnotationProject.server` under which the clicks are numbered."""
PAGE = "page"
"""`Event.source` of what was decided on a page."""
# a server's projects are told apart by when they were made: this one has always been there
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class PageReviewError(ValueError):
    """A review that cannot be recorded, however often it is sent."""


@dataclass(frozen=True)
class PageReview:
    """What a person decided on a page.

    Attributes:
        click: made by the page, once for each click: a repetition counts once.
        pair: the pair's key.
        accepted: whether the mask is kept.
        mask_sha256: the mask that the page showed; it must be one that the pair has had, or `merged`.
            None only where a pair without any mask is rejected.
        actor: who.
        made_at: when, which decides between this and other decisions.
        conflicts: what differs between the two images.
        seconds: how long the person looked at it, if known.
        detail: what else there is to say, for people who read the history.
        merged: whether the mask was made here, of two that the pair has had.
    """

    click: str
    pair: str
    accepted: bool
    mask_sha256: str | None
    actor: str
    made_at: datetime
    conflicts: frozenset[Conflict] = frozenset()
    seconds: float | None = None
    detail: str = ""
    merged: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a pair stands after a review; `new` tells whether the review was not there before."""

    new: bool
    status: Status
    mask_sha256: str | None
    conflicts: frozenset[Conflict]


def record_page_review(store: Store, review: PageReview) -> Outcome:
    """Append a review and bring its pair's state up to date, in one transaction.

    Raises:
        PageReviewError: there is no such pair, the mask is none of its masks, or the click was used
            for something else.
    """
    with store.writing() as session:
        project = _project(session)
        pair_id = session.scalar(select(Pair.id).where(Pair.key == review.pair))
        if pair_id is None:
            raise PageReviewError(f"there is no pair {review.pair}")
        lock(session, pair_id)
        if (known := _click(session, review.click)) is not None:
            if known.pair_id != pair_id or known.kind != EventKind.SUBMITTED:
                raise PageReviewError(f"the click {review.click} was recorded for something else")
            return _outcome(False, session.get_one(PairState, pair_id))
        status, model_version = _judge(session, pair_id, review)
        before = session.get_one(PairState, pair_id)
        newest = select(func.max(Event.annotation)).where(Event.project_id == project)
        session.add(
            Event(
                key=_key(review.click),
                pair_id=pair_id,
                kind=EventKind.SUBMITTED,
                source=PAGE,
                actor=review.actor,
                project_id=project,
                annotation=(session.scalar(newest) or 0) + 1,
                annotation_updated_at=review.made_at,
                status=status,
                mask_before=before.mask_sha256,
                mask_after=review.mask_sha256,
                conflicts=review.conflicts,
                model_version=model_version,
                lead_time=review.seconds,
                detail=review.detail,
            )
        )
        session.flush()
        return _outcome(True, derive(session, pair_id))


def take_back(store: Store, click: str, undone: str, actor: str) -> Outcome:
    """Append that an earlier click does not count; its pair is again what it was without it.

    Args:
        store: the store.
        click: made by the page for this, once.
        undone: the click that is taken back.
        actor: who takes it back.

    Raises:
        PageReviewError: there is no such click, or the new one was used for something else.
    """
    with store.writing() as session:
        project = _project(session)
        made = _click(session, undone)
        if made is None or made.kind != EventKind.SUBMITTED:
            raise PageReviewError(f"the click {undone} is not known, so it cannot be undone")
        lock(session, made.pair_id)
        mine = (Event.project_id == project, Event.annotation == made.annotation)
        gone = session.scalar(
            select(Event.id).where(*mine, Event.kind == EventKind.DELETED).limit(1)
        )
        if gone is not None:
            return _outcome(False, session.get_one(PairState, made.pair_id))
        if _click(session, click) is not None:
            raise PageReviewError(f"the click {click} was recorded for something else")
        session.add(
            Event(
                key=_key(click),
                pair_id=made.pair_id,
                kind=EventKind.DELETED,
                source=PAGE,
                actor=actor,
                project_id=project,
                annotation=made.annotation,
                annotation_updated_at=made.annotation_updated_at,
                mask_before=made.mask_after,
            )
        )
        session.flush()
        return _outcome(True, derive(session, made.pair_id))


def _key(click: str) -> str:
    return f"page:{click}"


def _click(session: Session, click: str) -> Event | None:
    return session.scalars(select(Event).where(Event.key == _key(click))).one_or_none()


def _project(session: Session) -> int:
    """Row id of the pages' own project; its row is what keeps two clicks from one number."""
    row_id = select(AnnotationProject.id).where(AnnotationProject.server == PAGES).with_for_update()
    found = session.scalar(row_id)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(AnnotationProject(server=PAGES, project=0, made_at=_ALWAYS))
    except IntegrityError:
        pass  # another click of this moment was the first
    return session.scalars(row_id).one()


def _judge(session: Session, pair_id: int, review: PageReview) -> tuple[Status, str | None]:
    """Accepted, adjusted or rejected, and the model version whose proposal was judged."""
    proposals = session.execute(
        select(Proposal.mask_sha256, Proposal.model_version)
        .where(Proposal.pair_id == pair_id)
        .order_by(Proposal.id)
    ).all()
    proposed = dict(proposals)
    decided: dict[str | None, tuple[str | None, str | None]] = {}
    for mask, status, version in session.execute(
        select(Event.mask_after, Event.status, Event.model_version)
        .where(Event.pair_id == pair_id, Event.mask_after.is_not(None))
        .order_by(Event.id)
    ):
        if status is not None or mask not in decided:
            decided[mask] = status, version
    mask = review.mask_sha256
    known = mask in proposed or mask in decided or review.merged
    if not known and (review.accepted or mask is not None):
        raise PageReviewError(f"pair {review.pair} has never had the mask {mask}")
    newest = proposals[-1].model_version if proposals else None
    earlier, judged = decided.get(mask, (None, newest))
    version = proposed.get(mask or "", judged or newest)
    if not review.accepted:
        return Status.REJECTED, version
    if mask in proposed or earlier == Status.ACCEPTED:
        return Status.ACCEPTED, version
    return Status.ADJUSTED, version


def _outcome(new: bool, state: PairState) -> Outcome:
    return Outcome(new, Status(state.status), state.mask_sha256, state.conflicts)

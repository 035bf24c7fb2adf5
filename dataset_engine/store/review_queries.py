"""What the review pages ask of the store: pages of pairs, a pair's history, which masks it has had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Select, String, and_, func, literal, select, tuple_, type_coerce
from sqlalchemy.orm import Session, aliased, selectinload

from dataset_engine.store.tables import (
    Comparison,
    Event,
    Identity,
    Image,
    Pair,
    PairState,
    Proposal,
)
from dataset_engine.taxonomy import Conflict, Status

PAGE_SIZE = 24
_DISAGREEMENT = (Comparison.gold.is_(False), Comparison.agrees.is_(False))


class Order(StrEnum):
    """In which order pairs are shown."""

    UNCERTAIN = "uncertain"
    CERTAIN = "certain"
    RECENT = "recent"


@dataclass(frozen=True)
class Filters:
    """Which pairs are shown; what is empty or None lets all through.

    Attributes:
        statuses: any of these.
        round: round of the pair's newest proposal.
        lowest: least score of that proposal, 0 to 1.
        highest: greatest score of it.
        conflict: one of the pair's conflicts, or "none" for pairs without any.
        identity: part of the person's name.
        order: by score, which only pairs with a proposal have, or the last decided first.
    """

    statuses: tuple[Status, ...] = (Status.PROPOSED,)
    round: int | None = None
    lowest: float | None = None
    highest: float | None = None
    conflict: Conflict | Literal["none"] | None = None
    identity: str = ""
    order: Order = Order.UNCERTAIN


Place = tuple[float, int]
"""Where a page ends in its order: the value ordered by, and the row's id."""


@dataclass(frozen=True)
class Card:
    """A pair as the review grid shows it; `place` is where it stands in the order."""

    key: str
    identity: str
    split: str
    status: Status
    mask_sha256: str | None
    proposed: bool
    conflicts: tuple[Conflict, ...]
    score: float | None
    round: int | None
    model_version: str | None
    actor: str | None
    place: Place


def review_page(
    session: Session, filters: Filters, after: Place | None = None, size: int = PAGE_SIZE
) -> list[Card]:
    """The next pairs in order; a page costs the same wherever in the order it is.

    Args:
        session: a session for reading.
        filters: which pairs, in which order.
        after: where the page before ended; None for the first page.
        size: most pairs of a page.
    """
    value, row = _ordered_by(filters.order)
    query = _filtered(
        select(Pair.key, Identity, PairState, Proposal, Event.actor, value, row), filters
    )
    descending = filters.order is not Order.UNCERTAIN
    if after is not None:
        here, there = tuple_(value, row), tuple_(literal(after[0]), literal(after[1]))
        query = query.where(here < there if descending else here > there)
    order = (value.desc(), row.desc()) if descending else (value, row)
    return [
        Card(
            key=key,
            identity=f"{identity.source}/{identity.name}",
            split=identity.split,
            status=Status(state.status),
            mask_sha256=state.mask_sha256,
            proposed=proposal is not None and proposal.mask_sha256 == state.mask_sha256,
            conflicts=tuple(c for c in Conflict if c in state.conflicts),
            score=None if proposal is None else proposal.score,
            round=None if proposal is None else proposal.round,
            model_version=None if proposal is None else proposal.model_version,
            actor=actor,
            place=(float(at), int(number)),
        )
        for key, identity, state, proposal, actor, at, number in session.execute(
            query.order_by(*order).limit(size)
        )
    ]


@dataclass(frozen=True)
class Answer:
    """What one of two annotators answered who disagree."""

    mask_sha256: str | None
    actor: str
    status: Status
    conflicts: tuple[Conflict, ...]


def answers_that_differ(session: Session, keys: Sequence[str]) -> dict[str, tuple[Answer, Answer]]:
    """The two answers of each of these pairs that wait for a third person's word, earlier ones first."""
    found: dict[str, tuple[Answer, Answer]] = {}
    first, second = aliased(Event), aliased(Event)
    query = (
        select(Pair.key, first, second)
        .join(Comparison, Comparison.pair_id == Pair.id)
        .join(first, first.id == Comparison.other_event_id)
        .join(second, second.id == Comparison.event_id)
        .where(Pair.key.in_(keys), *_DISAGREEMENT)
        .order_by(Comparison.id)
    )
    for key, one, other in session.execute(query) if keys else ():
        found[key] = (
            _answer(one),
            _answer(other),
        )  # the last comparison is that of today's answers
    return found


def _answer(event: Event) -> Answer:
    return Answer(
        event.mask_after,
        event.actor,
        Status(event.status or Status.REJECTED),
        tuple(c for c in Conflict if c in event.conflicts),
    )


def count_review(session: Session, filters: Filters) -> int:
    """How many pairs all pages have together."""
    return session.scalar(_filtered(select(func.count()), filters)) or 0


def rounds_proposed(session: Session) -> list[int]:
    """Rounds of which there are proposals."""
    query = select(func.min(Proposal.round)).group_by(Proposal.model_version)
    return sorted(set(session.scalars(query)))


def _ordered_by(order: Order) -> tuple[Any, Any]:
    if order is Order.RECENT:
        return Event.id, Event.id
    return Proposal.score, Proposal.id


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    if filters.order is Order.RECENT:
        query = (
            query.select_from(PairState)
            .join(Event, Event.id == PairState.event_id)
            .outerjoin(Proposal, Proposal.id == PairState.proposal_id)
        )
    else:
        # both columns, so that an index of the scores can lead and each state is one look-up away
        newest = and_(PairState.pair_id == Proposal.pair_id, PairState.proposal_id == Proposal.id)
        query = (
            query.select_from(Proposal)
            .join(PairState, newest)
            .outerjoin(Event, Event.id == PairState.event_id)
        )
    query = query.join(Pair, Pair.id == PairState.pair_id).join(
        Identity, Identity.id == Pair.identity_id
    )
    if filters.statuses:
        query = query.where(PairState.status.in_(filters.statuses))
        if filters.statuses == (Status.ADJUDICATE,):
            # these are few, and their comparisons lead to them
            disputed = select(Comparison.pair_id).where(*_DISAGREEMENT)
            query = query.where(PairState.pair_id.in_(disputed))
    if filters.round is not None:
        query = query.where(Proposal.round == filters.round)
    if filters.lowest is not None:
        query = query.where(Proposal.score >= filters.lowest)
    if filters.highest is not None:
        query = query.where(Proposal.score <= filters.highest)
    words = type_coerce(PairState.conflicts, String)
    if isinstance(filters.conflict, Conflict):
        around = literal(",").concat(words).concat(",")
        query = query.where(around.contains(f",{filters.conflict.value},"))
    elif filters.conflict:
        query = query.where(words == "")
    if filters.identity:
        name = Identity.source.concat("/").concat(Identity.name)
        query = query.where(name.contains(filters.identity, autoescape=True))
    return query


@dataclass(frozen=True)
class PairFaces:
    """What pictures of a pair are made of: hashes of the images, the region and all its masks."""

    gt: str
    ref: str
    region: str
    masks: frozenset[str]


def pair_faces(session: Session, key: str) -> PairFaces | None:
    """A pair's images, and every mask that was ever proposed or decided; None without such a pair."""
    gt, ref = aliased(Image), aliased(Image)
    pair = session.execute(
        select(Pair.id, gt.sha256, ref.sha256, ref.region_sha256)
        .join(gt, gt.id == Pair.gt_id)
        .join(ref, ref.id == Pair.ref_id)
        .where(Pair.key == key)
    ).one_or_none()
    if pair is None:
        return None
    number, gt_sha256, ref_sha256, region = pair
    proposed = select(Proposal.mask_sha256).where(Proposal.pair_id == number)
    decided = select(Event.mask_after).where(Event.pair_id == number)
    masks = session.scalars(proposed.union(decided))
    known = frozenset(mask for mask in masks if mask is not None)
    return PairFaces(gt_sha256, ref_sha256, region, known)


@dataclass(frozen=True)
class Chapter:
    """One line of a pair's history: a proposal or an event.

    Attributes:
        at: when it was proposed or decided.
        arrived: when the engine learnt of it.
        what: proposed, accepted, adjusted, rejected, skipped, unusable, deleted.
        who: the model version or the person.
        mask_sha256: the mask that it brought, if any.
        current: whether the pair's state is this one's.
    """

    at: datetime
    arrived: datetime
    what: str
    who: str
    source: str
    mask_sha256: str | None
    conflicts: tuple[Conflict, ...]
    score: float | None
    seconds: float | None
    detail: str
    current: bool


@dataclass(frozen=True)
class History:
    """A pair, how it stands, and all that happened to it, oldest first."""

    key: str
    identity: str
    split: str
    status: Status
    mask_sha256: str | None
    conflicts: tuple[Conflict, ...]
    chapters: tuple[Chapter, ...]


def pair_history(session: Session, key: str) -> History | None:
    """Everything that is known of a pair; None without such a pair."""
    found = session.execute(
        select(Pair, PairState)
        .join(PairState)
        .where(Pair.key == key)
        .options(selectinload(Pair.identity))
    ).one_or_none()
    if found is None:
        return None
    pair, state = found
    proposals = session.scalars(select(Proposal).where(Proposal.pair_id == pair.id)).all()
    events = session.scalars(select(Event).where(Event.pair_id == pair.id)).all()
    chapters = [
        *_proposed(proposals, None if state.event_id else state.proposal_id),
        *_decided(events, state.event_id),
    ]
    return History(
        key=pair.key,
        identity=f"{pair.identity.source}/{pair.identity.name}",
        split=pair.identity.split,
        status=Status(state.status),
        mask_sha256=state.mask_sha256,
        conflicts=tuple(c for c in Conflict if c in state.conflicts),
        chapters=tuple(sorted(chapters, key=lambda chapter: (chapter.at, chapter.arrived))),
    )


def _proposed(proposals: Sequence[Proposal], current: int | None) -> list[Chapter]:
    return [
        Chapter(
            at=one.created_at,
            arrived=one.created_at,
            what="proposed",
            who=one.model_version,
            source=f"round {one.round}",
            mask_sha256=one.mask_sha256,
            conflicts=(),
            score=one.score,
            seconds=None,
            detail="",
            current=one.id == current,
        )
        for one in proposals
    ]


def _decided(events: Sequence[Event], current: int | None) -> list[Chapter]:
    return [
        Chapter(
            # a deletion carries the time of what it deletes, which keeps the two in order
            at=one.at if one.kind == "deleted" else one.annotation_updated_at,
            arrived=one.at,
            what=one.status or one.kind,
            who=one.actor,
            source=one.source,
            mask_sha256=one.mask_after,
            conflicts=tuple(c for c in Conflict if c in one.conflicts),
            score=None,
            seconds=one.lead_time,
            detail=one.detail,
            current=one.id == current,
        )
        for one in events
    ]

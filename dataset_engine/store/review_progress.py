"""What the progress page asks of the store: one reading of every decision that stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from dataset_engine.store.queries import UNDECIDED
from dataset_engine.store.reviews import EventKind
from dataset_engine.store.tables import Comparison, Event, GoldAnswer, PairState, Proposal
from dataset_engine.taxonomy import Conflict, Status

BATCH = 2000


@dataclass(frozen=True)
class Standing:
    """The decision that a pair stands at.

    Attributes:
        round: round of the proposal that was judged; None where there was none.
        proposed: hash of that proposal's mask.
        final: hash of the mask that was kept or made.
        source: page, webhook, sync, or what an import is called.
        seconds: the person's time, where it is known.
    """

    status: Status
    round: int | None
    proposed: str | None
    final: str | None
    conflicts: frozenset[Conflict]
    actor: str
    source: str
    seconds: float | None
    at: datetime


def latest_change(session: Session) -> tuple[int, ...]:
    """What was last, and how many are gold: while these are the same, so is all here."""
    event = session.scalar(select(func.max(Event.id))) or 0
    proposal = session.scalar(select(func.max(Proposal.id))) or 0
    comparison = session.scalar(select(func.max(Comparison.id))) or 0
    gold = session.scalar(select(func.count()).select_from(GoldAnswer)) or 0
    return event, proposal, comparison, gold


def standing_decisions(session: Session) -> Iterator[Standing]:
    """The decisions of all decided pairs, in no order."""
    query = (
        select(
            PairState.status,
            func.coalesce(Event.round, Proposal.round),
            Proposal.mask_sha256,
            PairState.mask_sha256,
            PairState.conflicts,
            Event.actor,
            Event.source,
            Event.lead_time,
            Event.annotation_updated_at,
        )
        .join(Event, Event.id == PairState.event_id)
        .outerjoin(
            Proposal,
            and_(
                Proposal.pair_id == PairState.pair_id,
                Proposal.model_version == Event.model_version,
            ),
        )
        .execution_options(yield_per=BATCH)
    )
    for status, number, proposed, final, conflicts, actor, source, seconds, at in session.execute(
        query
    ):
        yield Standing(
            Status(status), number, proposed, final, conflicts, actor, source, seconds, at
        )


def waiting_by_round(session: Session) -> dict[int | None, int]:
    """Undecided pairs per round of their newest proposal; None counts those without one."""
    query = (
        select(Proposal.round, func.count())
        .select_from(PairState)
        .outerjoin(Proposal, Proposal.id == PairState.proposal_id)
        .where(PairState.status.in_(UNDECIDED))
        .group_by(Proposal.round)
    )
    return dict(session.execute(query).all())


def decisions_made(session: Session) -> dict[str, tuple[int, datetime]]:
    """How many decisions each person has ever made, standing or not, and when the last one was."""
    query = (
        select(Event.actor, func.count(), func.max(Event.annotation_updated_at))
        .where(Event.kind == EventKind.SUBMITTED)
        .group_by(Event.actor)
    )
    return {actor: (count, last) for actor, count, last in session.execute(query)}

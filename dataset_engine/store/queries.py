"""Questions to the store: counts for a status page, batches of pairs, reviewed triplets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, selectinload

from dataset_engine.shards import Triplet
from dataset_engine.store.database import Store
from dataset_engine.store.reviews import EventKind
from dataset_engine.store.tables import (
    Event,
    Identity,
    Image,
    Pair,
    PairState,
    Proposal,
    Round,
    SetAsideFile,
)
from dataset_engine.taxonomy import Scenario, Split, Status, scenarios

REVIEWED = tuple(status for status in Status if status.reviewed)
UNDECIDED = (Status.UNLABELLED, Status.PROPOSED)
BATCH = 500


@dataclass(frozen=True)
class StatusReport:
    """How far the work has come; every number is a count.

    Attributes:
        identities: per split.
        pairs: per status.
        seeds: chosen seed pairs, and how many of them have a person's mask.
        scenarios: reviewed pairs per scenario; a pair can be in several.
        set_aside: files that ingest left out, per reason.
        unusable: annotations that could not be read (they are still in Label Studio).
        rounds: number, model version, stage and metrics of each round.
    """

    identities: dict[str, int]
    images: int
    pairs: dict[str, int]
    seeds: int
    seeds_annotated: int
    scenarios: dict[str, int]
    set_aside: dict[str, int]
    unusable: int
    events: int
    rounds: list[dict[str, Any]]


def status_report(session: Session) -> StatusReport:
    """Count everything that `engine status` shows."""
    identities = dict.fromkeys((str(split) for split in Split), 0)
    identities |= _counts(session, select(Identity.split, func.count()).group_by("split"))
    pairs = dict.fromkeys((str(status) for status in Status), 0)
    pairs |= _counts(session, select(PairState.status, func.count()).group_by("status"))
    per_scenario = dict.fromkeys((str(scenario) for scenario in Scenario), 0)
    reviewed = select(PairState.conflicts, func.count()).where(PairState.status.in_(REVIEWED))
    for conflicts, count in session.execute(reviewed.group_by(PairState.conflicts)):
        for scenario in scenarios(conflicts):
            per_scenario[scenario] += count
    seeds = select(func.count()).select_from(Pair).where(Pair.seed_rank.is_not(None))
    return StatusReport(
        identities=identities,
        images=session.scalar(select(func.count(Image.id))) or 0,
        pairs=pairs,
        seeds=session.scalar(seeds) or 0,
        seeds_annotated=seeds_annotated(session),
        scenarios=per_scenario,
        set_aside=_counts(session, select(SetAsideFile.reason, func.count()).group_by("reason")),
        unusable=session.scalar(
            select(func.count()).select_from(Event).where(Event.kind == EventKind.UNUSABLE)
        )
        or 0,
        events=session.scalar(select(func.count(Event.id))) or 0,
        rounds=[
            {
                "number": r.number,
                "model_version": r.model_version,
                "stage": r.stage,
                "metrics": r.metrics,
            }
            for r in session.scalars(select(Round).order_by(Round.number))
        ],
    )


def seeds_annotated(session: Session) -> int:
    """How many seed pairs have a mask that a person kept or made."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Pair)
            .join(PairState)
            .where(Pair.seed_rank.is_not(None), PairState.status.in_(REVIEWED))
        )
        or 0
    )


def seeds_open(session: Session) -> int:
    """How many seed pairs nobody has decided on yet."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Pair)
            .join(PairState)
            .where(Pair.seed_rank.is_not(None), PairState.status.in_(UNDECIDED))
        )
        or 0
    )


def pair_by_key(session: Session, key: str) -> Pair | None:
    """The pair of this key with its images, or None."""
    return session.scalars(_with_images(select(Pair).where(Pair.key == key))).one_or_none()


def undecided(store: Store, without_model: str | None = None) -> Iterator[Pair]:
    """Pairs that no person has decided on, in their order, with images.

    They are read in batches, each with a short read of its own, so that memory stays bounded and
    writers never wait however many pairs there are.

    Args:
        store: the store.
        without_model: leave out pairs that have this model version's proposal already.
    """
    query = _with_images(select(Pair)).join(PairState).where(PairState.status.in_(UNDECIDED))
    if without_model is not None:
        query = query.where(Pair.id.not_in(_proposed_by(without_model)))
    last: tuple[float, int] | None = None
    while True:
        page = query.order_by(Pair.position, Pair.id).limit(BATCH)
        if last is not None:
            position, pair_id = last
            page = page.where(
                (Pair.position > position) | ((Pair.position == position) & (Pair.id > pair_id))
            )
        with store.reading() as session:
            pairs = session.scalars(page).all()
        yield from pairs
        if len(pairs) < BATCH:
            return
        last = (pairs[-1].position, pairs[-1].id)


def count_undecided(session: Session, without_model: str) -> int:
    """How many pairs `undecided` would give."""
    return (
        session.scalar(
            select(func.count())
            .select_from(PairState)
            .where(
                PairState.status.in_(UNDECIDED),
                PairState.pair_id.not_in(_proposed_by(without_model)),
            )
        )
        or 0
    )


def reviewed_masks(session: Session, splits: Sequence[Split]) -> Sequence[tuple[Pair, str]]:
    """Pairs of these splits with a mask that a person kept or made, and the mask's hash."""
    query = (
        select(Pair, PairState.mask_sha256)
        .join(PairState)
        .join(Identity, Identity.id == Pair.identity_id)
        .where(PairState.status.in_(REVIEWED), Identity.split.in_(splits))
        .order_by(Pair.key)
        .options(selectinload(Pair.gt), selectinload(Pair.ref))
    )
    return [(pair, str(mask)) for pair, mask in session.execute(query)]


def reviewed_triplets(store: Store) -> Iterator[Triplet]:
    """All triplets that may be exported, ordered by key, as one consistent reading of the store."""
    query = (
        select(Pair, PairState, Event, Proposal.round)
        .join(PairState, PairState.pair_id == Pair.id)
        .join(Event, Event.id == PairState.event_id)
        .outerjoin(Proposal, Proposal.id == PairState.proposal_id)
        .where(PairState.status.in_(REVIEWED))
        .order_by(Pair.key)
        .options(selectinload(Pair.gt), selectinload(Pair.ref), selectinload(Pair.identity))
        .execution_options(yield_per=BATCH)
    )
    with store.reading() as session:
        for pair, state, event, round_number in session.execute(query):
            yield _triplet(store, pair, state, event, round_number)


def latest_proposal(session: Session, pair_id: int) -> Proposal | None:
    """The newest proposal for a pair, or None."""
    return session.scalars(
        select(Proposal).where(Proposal.pair_id == pair_id).order_by(Proposal.id.desc()).limit(1)
    ).first()


def latest_round(session: Session) -> Round | None:
    """The round that was begun last, or None before the first."""
    return session.scalars(select(Round).order_by(Round.number.desc()).limit(1)).first()


def usable_round(session: Session) -> Round | None:
    """The newest round whose U-Net is trained, or None."""
    return session.scalars(
        select(Round).where(Round.stage != "training").order_by(Round.number.desc()).limit(1)
    ).first()


def latest_decision_id(session: Session) -> int:
    """The newest event that changed what is known of a mask, 0 when there is none."""
    decided = Event.status.is_not(None) | (Event.kind == EventKind.DELETED)
    return session.scalar(select(func.max(Event.id)).where(decided)) or 0


def _with_images(query: Select[Pair]) -> Select[Pair]:
    return query.options(selectinload(Pair.gt), selectinload(Pair.ref))


def _proposed_by(model_version: str) -> Select[int]:
    return select(Proposal.pair_id).where(Proposal.model_version == model_version)


def _counts(session: Session, query: Select[str, int]) -> dict[str, int]:
    return dict(session.execute(query).all())


def _triplet(
    store: Store, pair: Pair, state: PairState, event: Event, round_number: int | None
) -> Triplet:
    return Triplet(
        key=pair.key,
        identity=f"{pair.identity.source}/{pair.identity.name}",
        split=Split(pair.identity.split),
        gt=store.images.path(pair.gt.sha256),
        ref=store.images.path(pair.ref.sha256),
        gt_region=store.masks.path(pair.gt.region_sha256),
        ref_region=store.masks.path(pair.ref.region_sha256),
        mask=store.masks.path(str(state.mask_sha256)),
        conflicts=tuple(sorted(state.conflicts)),
        status=Status(state.status),
        round=round_number or 0,
        annotator=event.actor,
        model_version=event.model_version,
        gt_phash=pair.gt.phash,
        ref_phash=pair.ref.phash,
        gt_points=tuple((float(x), float(y)) for x, y in pair.gt.five_points),
        ref_points=tuple((float(x), float(y)) for x, y in pair.ref.five_points),
        source=pair.identity.source,
        licence=pair.identity.licence,
    )

"""Questions to the store: counts for a status page, batches of pairs, reviewed triplets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, text, tuple_
from sqlalchemy.orm import Session, selectinload

from dataset_engine.shards import Triplet
from dataset_engine.store.database import Store
from dataset_engine.store.pairs import seed_statuses
from dataset_engine.store.reviews import EventKind
from dataset_engine.store.tables import (
    REVIEWED_ROWS,
    UNDECIDED_ROWS,
    Base,
    Event,
    Identity,
    Image,
    Pair,
    PairState,
    Proposal,
    RestorationInput,
    Round,
    RowCount,
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
        inputs: restoration inputs, which have no ground truth and are never annotated.
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
    inputs: int
    set_aside: dict[str, int]
    unusable: int
    events: int
    rounds: list[dict[str, Any]]


def status_report(session: Session) -> StatusReport:
    """Count everything that `engine status` shows."""
    identities = dict.fromkeys((str(split) for split in Split), 0)
    identities |= row_counts(session, Identity)
    pairs = dict.fromkeys((str(status) for status in Status), 0)
    per_scenario = dict.fromkeys((str(scenario) for scenario in Scenario), 0)
    kept = select(RowCount.label, RowCount.conflicts, RowCount.number)
    for status, conflicts, count in session.execute(kept.where(_counts_of(PairState))):
        pairs[status] += count
        if status in REVIEWED:
            for scenario in scenarios(conflicts):
                per_scenario[scenario] += count
    events = row_counts(session, Event)
    reasons = select(SetAsideFile.reason, func.count()).group_by(SetAsideFile.reason)
    return StatusReport(
        identities=identities,
        images=sum(row_counts(session, Image).values()),
        pairs=pairs,
        seeds=seed_statuses(session).total(),
        seeds_annotated=seeds_annotated(session),
        scenarios=per_scenario,
        inputs=session.scalar(select(func.count(RestorationInput.id))) or 0,
        set_aside=dict(session.execute(reasons).all()),
        unusable=events.get(EventKind.UNUSABLE, 0),
        events=sum(events.values()),
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
    statuses = seed_statuses(session)
    return sum(statuses[status] for status in REVIEWED)


def seeds_open(session: Session) -> int:
    """How many seed pairs nobody has decided on yet, or two people differently."""
    statuses = seed_statuses(session)
    return sum(statuses[status] for status in (*UNDECIDED, Status.ADJUDICATE))


def pair_by_key(session: Session, key: str) -> Pair | None:
    """The pair of this key with its images, or None."""
    return session.scalars(_with_images(select(Pair).where(Pair.key == key))).one_or_none()


def undecided(store: Store, without_model: str | None = None) -> Iterator[Pair]:
    """Pairs that no person has decided on, in their order, with images.

    They are read in batches, each with a short read of its own, so that memory stays bounded and
    writers never wait however many pairs there are. A batch costs the same however many pairs there
    are, and however many before it are decided or have the proposal.

    Args:
        store: the store.
        without_model: leave out pairs that have this model version's proposal already.
    """
    last: tuple[float, int] | None = None
    while True:
        with store.reading() as session:
            places = _undecided_places(session, without_model, last)
            query = _with_images(select(Pair)).where(Pair.id.in_([number for _, number in places]))
            pairs = {pair.id: pair for pair in session.scalars(query)}
        for _, number in places:
            yield pairs[number]
        if len(places) < BATCH:
            return
        last = places[-1]


def _undecided_places(
    session: Session, without_model: str | None, after: tuple[float, int] | None
) -> list[tuple[float, int]]:
    """Positions and ids of the next batch of undecided pairs.

    The index has the pairs of each newest proposal's model version in their order, so that a batch is
    merged from one short run of each version, of which there are about as many as rounds.
    """
    places: list[tuple[float, int]] = []
    for version in _proposed_versions(session):
        if version == without_model:
            continue
        run = (
            select(PairState.position, PairState.pair_id)
            .where(text(UNDECIDED_ROWS), PairState.proposed_version == version)
            .order_by(PairState.position, PairState.pair_id)
            .limit(BATCH)
        )
        if without_model is not None and version:
            run = run.where(_has_no_proposal_of(without_model))
        if after is not None:
            run = run.where(tuple_(PairState.position, PairState.pair_id) > tuple_(*after))
        places += [(position, number) for position, number in session.execute(run)]
    return sorted(places)[:BATCH]


def _proposed_versions(session: Session) -> Iterator[str]:
    """The model versions of undecided pairs' newest proposals, "" where there is none."""
    smallest = select(func.min(PairState.proposed_version)).where(text(UNDECIDED_ROWS))
    version = session.scalar(smallest)
    while version is not None:
        yield version
        # DISTINCT would read the whole index
        version = session.scalar(smallest.where(PairState.proposed_version > version))


def count_undecided(session: Session, without_model: str) -> int:
    """How many pairs `undecided` would give.

    It is read off the counts that are kept, unless pairs have a proposal of this model version and a
    newer one of another, as after going back to a model: then the version's proposals are counted.
    """
    waiting = select(func.sum(RowCount.number)).where(
        _counts_of(PairState),
        RowCount.label.in_(UNDECIDED),
        RowCount.proposed_version != without_model,
    )
    count = int(session.scalar(waiting) or 0)
    newest = select(func.sum(RowCount.number)).where(
        _counts_of(PairState), RowCount.proposed_version == without_model
    )
    if row_counts(session, Proposal)[without_model] == (session.scalar(newest) or 0):
        return count
    older = (
        select(func.count())
        .select_from(Proposal)
        .join(PairState, PairState.pair_id == Proposal.pair_id)
        .where(
            Proposal.model_version == without_model,
            text(UNDECIDED_ROWS),
            PairState.proposed_version != without_model,
        )
    )
    return count - (session.scalar(older) or 0)


def row_counts(session: Session, table: type[Base]) -> Counter[str]:
    """How many rows a counted table has, by their label (see `RowCount`)."""
    query = select(RowCount.label, func.sum(RowCount.number)).where(_counts_of(table))
    # PostgreSQL sums integers to decimals
    rows = session.execute(query.group_by(RowCount.label))
    return Counter({label: int(number) for label, number in rows if number})


def _counts_of(table: type[Base]) -> ColumnElement[bool]:
    return RowCount.counted == str(table.__tablename__)


def _has_no_proposal_of(model_version: str) -> ColumnElement[bool]:
    """Whether a pair, whose newest proposal is another version's, has none of this one."""
    return ~(
        select(Proposal.id)
        .where(Proposal.pair_id == PairState.pair_id, Proposal.model_version == model_version)
        .exists()
    )


def reviewed_masks(session: Session, splits: Sequence[Split]) -> Sequence[tuple[Pair, str]]:
    """Pairs of these splits with a mask that a person kept or made, and the mask's hash."""
    query = (
        select(Pair, PairState.mask_sha256)
        .join(PairState)
        .join(Identity, Identity.id == Pair.identity_id)
        .where(text(REVIEWED_ROWS), Identity.split.in_(splits))
        .order_by(Pair.key)
        .options(selectinload(Pair.gt), selectinload(Pair.ref))
    )
    return [(pair, str(mask)) for pair, mask in session.execute(query)]


def reviewed_triplets(store: Store) -> Iterator[Triplet]:
    """All triplets that may be exported, in the pairs' order of arrival, as one consistent reading.

    They come off an index of the reviewed pairs alone, so that neither a sort nor the pairs that nobody
    has reviewed cost anything.
    """
    # outer joins, although nothing is missing, since those alone keep SQLite from beginning elsewhere
    query = (
        select(PairState, Pair, Event, func.coalesce(Event.round, Proposal.round))
        .outerjoin(Pair, Pair.id == PairState.pair_id)
        .outerjoin(Event, Event.id == PairState.event_id)
        .outerjoin(Proposal, Proposal.id == PairState.proposal_id)
        .where(text(REVIEWED_ROWS))
        .order_by(PairState.pair_id)
        .options(selectinload(Pair.gt), selectinload(Pair.ref), selectinload(Pair.identity))
        .execution_options(yield_per=BATCH)
    )
    with store.reading() as session, session.execute(query) as rows:
        for state, pair, event, round_number in rows:
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
        consent=pair.identity.consent,
    )

"""Identities, their splits, their images, and the pairs made of them."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, selectinload

from dataset_engine.shards.triplet import NOT_STATED
from dataset_engine.store.tables import (
    Identity,
    Image,
    Pair,
    PairState,
    RestorationInput,
)
from dataset_engine.taxonomy import Split, Status

SPLIT_SHARES = {Split.TRAIN: 0.8, Split.VALIDATION: 0.1, Split.TEST: 0.1}
LAST = 1_000_000
"""Rank of pairs that are for tests only: in every order they come behind all others."""


def seeded_fraction(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and the parts alone, on any machine."""
    digest = hashlib.sha256(":".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def add_identities(
    session: Session,
    names: Iterable[str],
    seed: int,
    source: str,
    licence: str,
    *,
    consent: str = NOT_STATED,
    split: Split | None = None,
) -> dict[str, Identity]:
    """Find or create identities of a source, by name.

    A new one goes, whole, to the split that is most behind its share, and keeps it for ever, whatever
    is added later. One that is known keeps its licence and consent, too (see `relicense`).

    Args:
        session: a session for writing.
        names: the identities' names within the source; all are held, with their rows.
        seed: decides who goes where.
        source: the source's name.
        licence: that of the new ones.
        consent: what the new ones agreed to.
        split: where all new ones go, whatever the shares; those do not count such identities.
    """
    names = list(names)
    known = {
        identity.name: identity
        for start in range(0, len(names), 500)
        for identity in session.scalars(
            select(Identity).where(
                Identity.source == source, Identity.name.in_(names[start : start + 500])
            )
        )
    }
    counts = dict.fromkeys(Split, 0)
    shared = select(Identity.split, func.count()).where(Identity.split_given.is_(False))
    for placed, count in session.execute(shared.group_by(Identity.split)):
        counts[Split(placed)] = count
    for name in in_split_order(set(names) - known.keys(), seed):
        total = sum(counts.values()) + 1
        chosen = split or max(Split, key=lambda s: SPLIT_SHARES[s] * total - counts[s])
        counts[chosen] += 1
        known[name] = Identity(
            name=name,
            split=chosen,
            source=source,
            licence=licence,
            consent=consent,
            split_given=split is not None,
        )
        session.add(known[name])
    session.flush()
    return known


def in_split_order(names: Iterable[str], seed: int) -> list[str]:
    """Names in the seeded order in which identities are given their splits."""
    return sorted(names, key=lambda name: seeded_fraction(seed, "split", name))


def relicense(
    session: Session, source: str, *, licence: str | None = None, consent: str | None = None
) -> int:
    """Give all identities and restoration inputs of a source another licence, consent or both.

    Returns:
        How many had a different one.
    """
    changed = 0
    for table in (Identity, RestorationInput):
        given = {"licence": licence, "consent": consent}
        values = {name: value for name, value in given.items() if value is not None}
        differs = or_(*(getattr(table, name) != value for name, value in values.items()))
        others = (table.source == source) & differs
        changed += session.scalar(select(func.count()).select_from(table).where(others)) or 0
        session.execute(update(table).where(others).values(values))
    return changed


def pair_key(gt_sha256: str, ref_sha256: str) -> str:
    """The name of a pair: the same on every machine, and silent about the identity."""
    return f"{gt_sha256[:16]}-{ref_sha256[:16]}"


def add_pairs(session: Session, identity_id: int, seed: int, limit: int) -> int:
    """Make ordered pairs of an identity's images, in seeded order, up to a limit per identity.

    Pairs that exist stay, so adding images later only adds pairs.

    Returns:
        How many pairs are new.
    """
    existing = set(
        session.execute(select(Pair.gt_id, Pair.ref_id).where(Pair.identity_id == identity_id))
    )
    if len(existing) >= limit:
        return 0
    images = session.execute(
        select(Image.id, Image.sha256).where(Image.identity_id == identity_id)
    ).all()
    candidates = (
        (seeded_fraction(seed, "pair", gt.sha256, ref.sha256), gt, ref)
        for gt, ref in itertools.permutations(images, 2)
        if (gt.id, ref.id) not in existing
    )
    # not sorted as a whole: a thousand images have a million pairs
    chosen = heapq.nsmallest(limit - len(existing), candidates, key=lambda one: one[0])
    new = [
        Pair(
            key=pair_key(gt.sha256, ref.sha256),
            identity_id=identity_id,
            gt_id=gt.id,
            ref_id=ref.id,
            # each identity's first pair comes before any identity's second one
            position=rank + fraction,
        )
        for rank, (fraction, gt, ref) in enumerate(chosen, start=len(existing))
    ]
    _add(session, new)
    return len(new)


def add_pair(
    session: Session,
    gt: Image,
    ref: Image,
    seed: int,
    *,
    key: str | None = None,
    rank: int | None = None,
) -> Pair | None:
    """Make exactly this pair of one identity's images.

    Args:
        session: a session for writing, in which both images have their ids.
        gt: the ground truth.
        ref: the reference, another image of the same identity.
        seed: decides the pair's place among those of its rank.
        key: its name; made of the images otherwise.
        rank: pairs of a lower rank come first; the identity's number of pairs otherwise.

    Returns:
        The pair, or None where it is there already.
    """
    there = select(Pair.id).where(Pair.gt_id == gt.id, Pair.ref_id == ref.id)
    if session.scalar(there) is not None:
        return None
    if rank is None:
        count = select(func.count()).select_from(Pair).where(Pair.identity_id == gt.identity_id)
        rank = session.scalar(count) or 0
    pair = Pair(
        key=key or pair_key(gt.sha256, ref.sha256),
        identity_id=gt.identity_id,
        gt_id=gt.id,
        ref_id=ref.id,
        position=rank + seeded_fraction(seed, "pair", gt.sha256, ref.sha256),
    )
    _add(session, [pair])
    return pair


def _add(session: Session, new: Sequence[Pair]) -> None:
    session.add_all(new)
    session.flush()
    session.add_all(
        PairState(pair_id=pair.id, status=Status.UNLABELLED, position=pair.position) for pair in new
    )
    session.flush()


def seed_statuses(session: Session) -> Counter[Status]:
    """How many of the chosen seed pairs are in which status."""
    # an outer join and no condition on the status: the databases begin with the few seeds
    query = select(PairState.status).select_from(Pair).outerjoin(PairState)
    rows = session.scalars(query.where(Pair.seed_rank.is_not(None)))
    return Counter(Status(status) for status in rows)


def choose_seeds(session: Session, count: int) -> Sequence[Pair]:
    """Choose pairs for people to annotate before a model exists, spread over identities.

    Pairs chosen before stay chosen. Rejected seeds are replaced, so that ``count`` masks can come
    out of it.

    Returns:
        All seeds in their order, images loaded.
    """
    statuses = seed_statuses(session)
    chosen, rejected = statuses.total(), statuses[Status.REJECTED]
    fresh = session.scalars(
        select(Pair)
        .where(Pair.seed_rank.is_(None))
        .order_by(Pair.position)
        .limit(max(0, count + rejected - chosen))
    ).all()
    for rank, pair in enumerate(fresh, start=chosen):
        pair.seed_rank = rank
    session.flush()
    return session.scalars(
        select(Pair)
        .where(Pair.seed_rank.is_not(None))
        .order_by(Pair.seed_rank)
        .options(selectinload(Pair.gt), selectinload(Pair.ref))
    ).all()

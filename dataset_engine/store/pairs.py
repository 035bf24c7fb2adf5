"""Identities, their splits, their images, and the pairs made of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from dataset_engine.store.tables import Identity, Image, Pair, PairState
from dataset_engine.taxonomy import Split, Status

SPLIT_SHARES = {Split.TRAIN: 0.8, Split.VALIDATION: 0.1, Split.TEST: 0.1}


def seeded_fraction(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and the parts alone, on any machine."""
    digest = hashlib.sha256(":".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def add_identities(
    session: Session, names: Iterable[str], seed: int, source: str, licence: str
) -> dict[str, Identity]:
    """Find or create identities of a source, by name.

    A new one goes, whole, to the split that is most behind its share, and keeps it for ever, whatever
    is added later. One that is known keeps its licence, too (see `relicense`).
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
    for split, count in session.execute(select(Identity.split, func.count()).group_by("split")):
        counts[Split(split)] = count
    new = sorted(set(names) - known.keys(), key=lambda name: seeded_fraction(seed, "split", name))
    for name in new:
        total = sum(counts.values()) + 1
        split = max(Split, key=lambda s: SPLIT_SHARES[s] * total - counts[s])
        counts[split] += 1
        known[name] = Identity(name=name, split=split, source=source, licence=licence)
        session.add(known[name])
    session.flush()
    return known


def relicense(identities: Iterable[Identity], licence: str) -> int:
    """Give identities another licence.

    Returns:
        How many had a different one.
    """
    changed = [identity for identity in identities if identity.licence != licence]
    for identity in changed:
        identity.licence = licence
    return len(changed)


def pair_key(gt_sha256: str, ref_sha256: str) -> str:
    """The name of a pair: the same on every machine, and silent about the identity."""
    return f"{gt_sha256[:16]}-{ref_sha256[:16]}"


def add_pairs(session: Session, identity_id: int, seed: int, limit: int) -> int:
    """Make ordered pairs of an identity's images, in seeded order, up to a limit per identity.

    Pairs that exist stay, so adding images later only adds pairs.

    Returns:
        How many pairs are new.
    """
    images = session.scalars(select(Image).where(Image.identity_id == identity_id)).all()
    existing = set(
        session.execute(select(Pair.gt_id, Pair.ref_id).where(Pair.identity_id == identity_id))
    )
    candidates = sorted(
        (
            (seeded_fraction(seed, "pair", gt.sha256, ref.sha256), gt, ref)
            for gt, ref in itertools.permutations(images, 2)
            if (gt.id, ref.id) not in existing
        ),
        key=lambda candidate: candidate[0],
    )
    new = [
        Pair(
            key=pair_key(gt.sha256, ref.sha256),
            identity_id=identity_id,
            gt_id=gt.id,
            ref_id=ref.id,
            # each identity's first pair comes before any identity's second one
            position=rank + fraction,
        )
        for rank, (fraction, gt, ref) in enumerate(
            candidates[: max(0, limit - len(existing))], start=len(existing)
        )
    ]
    session.add_all(new)
    session.flush()
    session.add_all(PairState(pair_id=pair.id, status=Status.UNLABELLED) for pair in new)
    session.flush()
    return len(new)


def choose_seeds(session: Session, count: int) -> Sequence[Pair]:
    """Choose pairs for people to annotate before a model exists, spread over identities.

    Pairs chosen before stay chosen. Rejected seeds are replaced, so that ``count`` masks can come
    out of it.

    Returns:
        All seeds in their order, images loaded.
    """
    rejected = session.scalar(
        select(func.count())
        .select_from(Pair)
        .join(PairState)
        .where(Pair.seed_rank.is_not(None), PairState.status == Status.REJECTED)
    )
    chosen = session.scalar(select(func.count()).where(Pair.seed_rank.is_not(None))) or 0
    fresh = session.scalars(
        select(Pair)
        .where(Pair.seed_rank.is_(None))
        .order_by(Pair.position)
        .limit(max(0, count + (rejected or 0) - chosen))
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

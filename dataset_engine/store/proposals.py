"""Keeping proposals: at most one mask per pair and model version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from dataset_engine.store.database import Store
from dataset_engine.store.reviews import derive_all, lock
from dataset_engine.store.tables import Pair, PairState, Proposal
from dataset_engine.taxonomy import Status

FACE_REGION = "face-region"
"""Model version of the rule that proposes the whole face region before any model exists."""

NOTHING = np.zeros((0, 0), np.bool_)
BATCH = 500
"""Proposals that are brought forward in one transaction."""


@dataclass(frozen=True)
class NewProposal:
    """A mask for a pair, bool [H, W], with a score in [0, 1] (how sure the model is).

    What else is known of the model's uncertainty: see `dataset_engine.proposing.Proposal`.
    """

    pair_id: int
    mask: NDArray[np.bool_]
    score: float
    entropy: float | None = None
    flip_disagreement: float | None = None


def add_proposals(
    store: Store, model_version: str, round_number: int, proposals: Iterable[NewProposal]
) -> int:
    """Keep proposals of one model version in one transaction; a pair's second one is ignored.

    So is one for a pair that was removed meanwhile.

    Returns:
        How many were new.
    """
    # without the masks, of which there may be many
    kept = [(replace(p, mask=NOTHING), store.put_mask(p.mask)) for p in proposals]
    with store.writing() as session:
        there = lock(session, *(p.pair_id for p, _ in kept))
        known = set(
            session.scalars(
                select(Proposal.pair_id).where(
                    Proposal.model_version == model_version,
                    Proposal.pair_id.in_([p.pair_id for p, _ in kept]),
                )
            )
        )
        new = [one for one in kept if one[0].pair_id in there and one[0].pair_id not in known]
        for p, mask_sha256 in new:
            session.add(
                Proposal(
                    pair_id=p.pair_id,
                    model_version=model_version,
                    round=round_number,
                    mask_sha256=mask_sha256,
                    score=p.score,
                    entropy=p.entropy,
                    flip_disagreement=p.flip_disagreement,
                )
            )
        session.flush()
        derive_all(session, (p.pair_id for p, _ in new))
    return len(new)


def bring_forward(store: Store, model_version: str) -> int:
    """Make a version's proposals the newest ones of all pairs that nobody has decided on.

    The newest proposal is what people see. Where an older version is to be seen again, its rows are
    written anew behind the others; what the others found out stays beside them.

    Returns:
        How many proposals were brought forward; one that is the newest stays where it is.
    """
    behind = (
        select(Proposal.pair_id)
        .join(PairState, PairState.pair_id == Proposal.pair_id)
        .where(
            Proposal.model_version == model_version,
            PairState.status == Status.PROPOSED,
            PairState.proposed_version != model_version,
        )
        .order_by(Proposal.pair_id)
    )
    with store.reading() as session:
        pair_ids = session.scalars(behind).all()
    for start in range(0, len(pair_ids), BATCH):
        some = pair_ids[start : start + BATCH]
        with store.writing() as session:
            for state in lock(session, *some).values():
                state.proposal_id = None
            old = session.scalars(
                select(Proposal)
                .where(Proposal.model_version == model_version, Proposal.pair_id.in_(some))
                .order_by(Proposal.id)
            ).all()
            copies = [
                {
                    column.key: getattr(one, column.key)
                    for column in Proposal.__table__.columns
                    if column.key != "id"
                }
                for one in old
            ]
            session.flush()
            for one in old:
                session.delete(one)
            session.flush()
            session.add_all(Proposal(**copy) for copy in copies)
            session.flush()
            derive_all(session, some)
    return len(pair_ids)


def propose_face_region(store: Store, pairs: Iterable[Pair]) -> int:
    """Propose the reference's whole face region, so that an annotator only paints conflicts.

    Args:
        store: the store.
        pairs: pairs with their reference loaded.

    Returns:
        How many proposals were new.
    """
    return add_proposals(
        store,
        FACE_REGION,
        0,
        (NewProposal(pair.id, store.mask(pair.ref.region_sha256), 0.0) for pair in pairs),
    )

"""Keeping proposals: at most one mask per pair and model version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from dataset_engine.store.database import Store
from dataset_engine.store.reviews import derive_all, lock
from dataset_engine.store.tables import Pair, Proposal

FACE_REGION = "face-region"
"""Model version of the rule that proposes the whole face region before any model exists."""


@dataclass(frozen=True)
class NewProposal:
    """A mask for a pair, bool [H, W], with a score in [0, 1] (how sure the model is)."""

    pair_id: int
    mask: NDArray[np.bool_]
    score: float


def add_proposals(
    store: Store, model_version: str, round_number: int, proposals: Iterable[NewProposal]
) -> int:
    """Keep proposals of one model version in one transaction; a pair's second one is ignored.

    Returns:
        How many were new.
    """
    hashes = [(p.pair_id, store.put_mask(p.mask), p.score) for p in proposals]
    with store.writing() as session:
        lock(session, *(pair_id for pair_id, _, _ in hashes))
        known = set(
            session.scalars(
                select(Proposal.pair_id).where(
                    Proposal.model_version == model_version,
                    Proposal.pair_id.in_([pair_id for pair_id, _, _ in hashes]),
                )
            )
        )
        new = [row for row in hashes if row[0] not in known]
        for pair_id, mask_sha256, score in new:
            session.add(
                Proposal(
                    pair_id=pair_id,
                    model_version=model_version,
                    round=round_number,
                    mask_sha256=mask_sha256,
                    score=score,
                )
            )
        session.flush()
        derive_all(session, (pair_id for pair_id, _, _ in new))
    return len(new)


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

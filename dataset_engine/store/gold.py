"""Gold answers: pairs whose right mask is known, mixed in among the others to test annotators.

A gold answer is an event of the pair, by someone who is trusted. It lives in this store only: Label
Studio has the pair's task as it has all others.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dataset_engine.store.comparing import compare_answers
from dataset_engine.store.database import Store
from dataset_engine.store.queries import REVIEWED
from dataset_engine.store.reviews import derive_all, lock
from dataset_engine.store.tables import Comparison, Event, GoldAnswer, Pair, PairState
from dataset_engine.taxonomy import Status

BATCH = 500


class GoldError(ValueError):
    """Pairs that cannot be made gold; nothing was changed."""


def set_gold(store: Store, keys: Iterable[str], set_by: str) -> int:
    """Make the answers at which these pairs stand now their gold answers.

    A pair that has one already keeps it.

    Args:
        store: the store.
        keys: the pairs' keys.
        set_by: who says that these answers are right.

    Returns:
        How many are new.

    Raises:
        GoldError: there is no such pair, or nobody has accepted or adjusted its mask.
    """
    with store.writing() as session:
        pair_ids = []
        for key in dict.fromkeys(keys):
            found = session.execute(
                select(Pair.id, PairState.status)
                .join(PairState, PairState.pair_id == Pair.id)
                .where(Pair.key == key)
            ).one_or_none()
            if found is None:
                raise GoldError(f"there is no pair {key}")
            if found.status not in REVIEWED:
                raise GoldError(
                    f"pair {key} is {found.status}: accept or adjust its mask first, so that there is "
                    "a right answer"
                )
            pair_ids.append(found.id)
        return _add(session, pair_ids, set_by)


def gold_from_reviewer(store: Store, reviewer: str, limit: int, set_by: str) -> int:
    """Make gold answers of what one person accepted or adjusted, the newest first.

    Args:
        store: the store.
        reviewer: as the history of a pair names the person; ``review:`` may be left out.
        limit: how many new ones at most.
        set_by: who says that this person's answers are right.

    Returns:
        How many are new.

    Raises:
        GoldError: no pair stands at an answer of this person that is not gold already.
    """
    with store.writing() as session:
        theirs = (
            select(PairState.pair_id)
            .join(Event, Event.id == PairState.event_id)
            .outerjoin(GoldAnswer, GoldAnswer.pair_id == PairState.pair_id)
            .where(
                Event.actor.in_((reviewer, f"review:{reviewer}")),
                PairState.status.in_(REVIEWED),
                PairState.mask_sha256.is_not(None),
                GoldAnswer.pair_id.is_(None),
            )
            .order_by(Event.id.desc())
            .limit(limit)
        )
        pair_ids = session.scalars(theirs).all()
        if not pair_ids:
            raise GoldError(
                f"no accepted or adjusted pair stands at an answer of {reviewer!r} that is not gold "
                "already: look up the name on a pair's history page"
            )
        return _add(session, pair_ids, set_by)


def drop_gold(store: Store, keys: Iterable[str]) -> int:
    """Let pairs be gold no more; what annotators answered to them counts as any answer then.

    Returns:
        How many were gold.
    """
    wanted = list(dict.fromkeys(keys))
    with store.writing() as session:
        query = select(GoldAnswer.pair_id).join(Pair, Pair.id == GoldAnswer.pair_id)
        pair_ids = [
            pair_id
            for start in range(0, len(wanted), BATCH)
            for pair_id in session.scalars(query.where(Pair.key.in_(wanted[start : start + BATCH])))
        ]
        lock(session, *pair_ids)
        for table in (GoldAnswer, Comparison):
            session.execute(delete(table).where(table.pair_id.in_(pair_ids)))
        derive_all(session, pair_ids)
    for pair_id in pair_ids:
        compare_answers(store, pair_id)
    return len(pair_ids)


def _add(session: Session, pair_ids: Iterable[int], set_by: str) -> int:
    new = 0
    for pair_id, state in lock(session, *pair_ids).items():
        if session.get(GoldAnswer, pair_id) is None and Status(state.status).reviewed:
            session.add(GoldAnswer(pair_id=pair_id, event_id=state.event_id, set_by=set_by))
            new += 1
    session.flush()
    return new

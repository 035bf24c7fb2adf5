"""Finished parts into the store; taking them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import select

from dataset_engine.cluster.job import Job
from dataset_engine.cluster.parts import PartError, read_part
from dataset_engine.pair_images import SIDE
from dataset_engine.progress import Advance, silent
from dataset_engine.set_aside import SetAside
from dataset_engine.store import Store
from dataset_engine.store.blobs import decode_mask_png
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.tables import Pair

STORE_EVERY = 64
"""Proposals in one transaction."""


@dataclass
class TakeReport:
    """What was taken.

    Attributes:
        proposed: proposals that were new to the store.
        known: proposals that it had already.
        set_aside: pairs without a usable mask, or unknown to the store.
        missing_parts: parts that are not finished; run the cluster again, then take again.
        broken_parts: parts that cannot be read, with the reason.
    """

    proposed: int = 0
    known: int = 0
    set_aside: SetAside = field(default_factory=SetAside)
    missing_parts: int = 0
    broken_parts: list[str] = field(default_factory=list)


def take_parts(store: Store, job: Job, round_number: int, progress: Advance = silent) -> TakeReport:
    """Store the proposals of a job's finished parts, part after part, in short transactions."""
    missing = set(job.missing())
    report = TakeReport(missing_parts=len(missing))
    done = 0
    for number in range(job.parts):
        if number in missing:
            continue
        rows = read_part(job.part(number))
        try:
            while chunk := list(islice(rows, STORE_EVERY)):
                _take(store, job, round_number, chunk, report)
                done += len(chunk)
                progress(done, job.pairs)
        except PartError as error:
            report.broken_parts.append(str(error))
    return report


def _take(
    store: Store, job: Job, round_number: int, rows: list[dict[str, Any]], report: TakeReport
) -> None:
    keys = [row["key"] for row in rows]
    with store.reading() as session:
        ids: dict[str, int] = dict(
            session.execute(select(Pair.key, Pair.id).where(Pair.key.in_(keys))).all()
        )
    proposals = list(_usable(rows, ids, report))
    new = add_proposals(store, job.model_version, round_number, proposals)
    report.proposed += new
    report.known += len(proposals) - new


def _usable(
    rows: list[dict[str, Any]], ids: dict[str, int], report: TakeReport
) -> Iterator[NewProposal]:
    for row in rows:
        key, data = row["key"], row["mask"]
        if data is None:
            report.set_aside.add(key, row["set_aside"])
        elif key not in ids:
            report.set_aside.add(
                key, f"pair {key!r} is not in this store; was it listed from another one?"
            )
        else:
            try:
                mask = decode_mask_png(data)
            except ValueError as error:
                report.set_aside.add(
                    key, f"its mask is {error}; remove the part and run the cluster again"
                )
                continue
            if mask.shape != (SIDE, SIDE):
                report.set_aside.add(key, f"its mask is {mask.shape[1]}x{mask.shape[0]}")
                continue
            yield NewProposal(ids[key], mask, row["score"])

"""Proposals of one model for every undecided pair of a store: what is stored is never made again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from dataset_engine.pair_images import PairFiles
from dataset_engine.progress import Advance, silent
from dataset_engine.proposing import propose
from dataset_engine.set_aside import SetAside
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import count_undecided, undecided
from dataset_engine.stored_pairs import pair_files
from models.exported import load_fastest

STORE_EVERY = 32
"""Proposals in one transaction: what a kill can cost."""


@dataclass
class ProposalReport:
    """What a run did.

    Attributes:
        proposed: pairs that got a proposal in this run.
        set_aside: pairs that could not be read.
    """

    proposed: int = 0
    set_aside: SetAside = field(default_factory=SetAside)


def propose_undecided(
    store: Store,
    model_folder: Path,
    model_version: str,
    round_number: int,
    *,
    batch_size: int = 4,
    workers: int = 1,
    flips: bool = False,
    progress: Advance = silent,
) -> ProposalReport:
    """Propose a mask for each pair that nobody has decided on and that has none of this model.

    A run that was stopped, however it was, goes on with the pairs that are missing, and the store ends
    up as if it had not been stopped (see `dataset_engine.proposing.propose` for what that rests on).
    Without such pairs the model is not even loaded.

    Args:
        store: the store.
        model_folder: where the model is.
        model_version: under which the proposals are kept.
        round_number: the round that they belong to.
        batch_size: pairs a forward pass.
        workers: decoding threads.
        flips: whether to measure how the model disagrees with itself on the mirrored pair, for which
            it is asked twice.
        progress: told how many pairs are done, and of how many.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    report = ProposalReport()
    with store.reading() as session:
        total = count_undecided(session, without_model=model_version)
    if not total:
        return report
    model = load_fastest(model_folder, batch_size, on_gpu=torch.cuda.is_available())
    ids: dict[str, int] = {}  # of the pairs that are under way

    def files() -> Iterator[PairFiles]:
        for pair in undecided(store, without_model=model_version):
            ids[pair.key] = pair.id
            yield pair_files(store, pair)

    def leave(key: str, reason: str) -> None:
        del ids[key]
        report.set_aside.add(key, reason)

    progress(0, total)
    proposals = propose(
        model, files(), batch_size=batch_size, workers=workers, flips=flips, set_aside=leave
    )
    while batch := list(islice(proposals, STORE_EVERY)):
        report.proposed += add_proposals(
            store,
            model_version,
            round_number,
            [
                NewProposal(ids.pop(p.key), p.mask, p.score, p.entropy, p.flip_disagreement)
                for p in batch
            ],
        )
        progress(report.proposed + report.set_aside.count, total)
    return report

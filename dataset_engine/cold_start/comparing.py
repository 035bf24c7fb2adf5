"""The rule beside the trained U-Net on pairs that people have reviewed, and which of them proposes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.proposing import derive
from dataset_engine.cold_start.rule import RULE_VERSION
from dataset_engine.progress import Advance, silent
from dataset_engine.proposing import propose
from dataset_engine.store import Store
from dataset_engine.store.queries import reviewed_masks, usable_round
from dataset_engine.store.tables import Image, Pair, Round
from dataset_engine.stored_pairs import model_folder, pair_files
from dataset_engine.taxonomy import Split
from models.exported import load_fastest
from models.metrics import Confusion, Scores, summarise, summarise_all_ones

HELD_OUT = (Split.VALIDATION, Split.TEST)
PARTS = 500
"""Pairs that are read from the database at once."""


@dataclass(frozen=True)
class Comparison:
    """Scores on the same held-out pairs, each mask against the reviewed one.

    Attributes:
        model_version: version of the U-Net, or None while none is trained.
        unet: its scores, or None.
        rule: the rule's.
        all_ones: those of the mask that keeps the whole face region.
    """

    model_version: str | None
    unet: Scores | None
    rule: Scores
    all_ones: Scores


def compare_proposals(store: Store, landmarks: Landmarks, progress: Advance = silent) -> Comparison:
    """Measure both on the reviewed pairs of all identities that no U-Net learns from.

    Raises:
        NoAnalyser: meshes are missing and cannot be found here.
        ValueError: no such pair is reviewed yet.
    """
    with store.reading() as session:
        reviewed = list(reviewed_masks(session, HELD_OUT))
        round_ = usable_round(session)
    if not reviewed:
        raise ValueError(
            "no pair of a validation or test identity is reviewed yet: review some, then compare"
        )
    total = len(reviewed) * (2 if round_ else 1)
    by_rule = []
    for done, (pair, mask) in enumerate(reviewed, start=1):
        by_rule.append(_against(store, pair, mask, derive(store, landmarks, pair).mask))
        progress(done, total)
    by_unet = []
    if round_ is not None:
        folder = model_folder(store, round_.model_version)
        for confusion in _by_unet(store, reviewed, folder):
            by_unet.append(confusion)
            progress(len(by_rule) + len(by_unet), total)
    return Comparison(
        model_version=round_.model_version if round_ else None,
        unet=summarise(by_unet) if by_unet else None,
        rule=summarise(by_rule),
        all_ones=summarise_all_ones(by_rule),
    )


def rule_scores(
    store: Store,
    landmarks: Landmarks,
    masks: Sequence[tuple[str, str, str]],
    progress: Advance = silent,
) -> Scores | None:
    """The rule's scores on reviewed masks; None where none of the images has a mesh.

    Args:
        store: the store.
        landmarks: of the store's images.
        masks: hashes of the ground truth, the reference and the reviewed mask.
        progress: told how many are measured.

    Raises:
        NoAnalyser: meshes are missing and cannot be found here.
    """
    pairs = _pairs(store, {(gt, reference) for gt, reference, _ in masks})
    confusions, derived = [], False
    for done, (gt, reference, mask) in enumerate(masks, start=1):
        pair = pairs[gt, reference]
        proposal = derive(store, landmarks, pair)
        derived = derived or proposal.score > 0
        confusions.append(_against(store, pair, mask, proposal.mask))
        progress(done, len(masks))
    return summarise(confusions) if derived else None


def unet_measures_better(metrics: Mapping[str, Any]) -> bool:
    """Whether a round's U-Net has a higher IoU than the rule on the same held-out pairs.

    Where nothing could be compared, the U-Net has what people taught it, and takes over.
    """
    rule, unet = metrics.get("rule"), metrics.get("unet")
    if not rule or not unet or rule.get("iou") is None:
        return True
    return bool((unet.get("iou") or 0.0) > rule["iou"])


def proposing_version(round_: Round) -> str:
    """The model version whose proposals a round shows."""
    return round_.model_version if unet_measures_better(round_.metrics) else RULE_VERSION


def _against(store: Store, pair: Pair, reviewed: str, proposed: Any) -> Confusion:  # noqa: ANN401
    return Confusion.count(proposed, store.mask(reviewed), store.mask(pair.ref.region_sha256))


def _by_unet(
    store: Store, reviewed: Sequence[tuple[Pair, str]], folder: Path
) -> Iterator[Confusion]:
    waiting = {pair.key: (pair, mask) for pair, mask in reviewed}
    model = load_fastest(folder, 4, on_gpu=False)
    files = [pair_files(store, pair) for pair, _ in reviewed]
    for proposal in propose(model, files, batch_size=4):
        pair, mask = waiting[proposal.key]
        yield _against(store, pair, mask, proposal.mask)


def _pairs(store: Store, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Pair]:
    grounds = sorted({gt for gt, _ in wanted})
    found: dict[tuple[str, str], Pair] = {}
    for start in range(0, len(grounds), PARTS):
        query = (
            select(Pair)
            .join(Image, Image.id == Pair.gt_id)
            .where(Image.sha256.in_(grounds[start : start + PARTS]))
            .options(selectinload(Pair.gt), selectinload(Pair.ref))
        )
        with store.reading() as session:
            found |= {(one.gt.sha256, one.ref.sha256): one for one in session.scalars(query)}
    return found

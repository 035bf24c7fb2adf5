"""Rule proposals for stored pairs: the first ones that annotators see, before any U-Net exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import select

from dataset_engine.cold_start.landmarks import Landmarks, NoAnalyser
from dataset_engine.cold_start.rule import (
    RULE_VERSION,
    RuleProposal,
    propose_by_rule,
)
from dataset_engine.cold_start.texture import PairFaces
from dataset_engine.progress import Advance, silent
from dataset_engine.set_aside import SetAside
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.proposals import (
    FACE_REGION,
    NewProposal,
    add_proposals,
    propose_face_region,
)
from dataset_engine.store.queries import count_undecided, undecided
from dataset_engine.store.tables import Pair, Proposal
from dataset_engine.taxonomy import Conflict

STORE_EVERY = 32
"""Proposals in one transaction: what a kill can cost."""


@dataclass
class ColdStartReport:
    """What a run did.

    Attributes:
        model_version: version of the proposals that were made.
        proposed: pairs that got a proposal in this run.
        without_face: of them, pairs in which a mesh is missing: their whole face region is proposed.
        set_aside: pairs that could not be read.
        note: why nothing could be derived at all, or "".
    """

    model_version: str = RULE_VERSION
    proposed: int = 0
    without_face: int = 0
    set_aside: SetAside = field(default_factory=SetAside)
    note: str = ""


def pair_faces(store: Store, landmarks: Landmarks, pair: Pair) -> PairFaces | None:
    """What the rule looks at, or None where one of the two images shows no face to the analyser.

    Args:
        store: the store.
        landmarks: of the store's images.
        pair: its images have to be loaded.

    Raises:
        NoAnalyser: meshes are missing and cannot be found here.
        OSError: a file is missing or damaged.
    """
    gt, reference = landmarks.of(pair.gt), landmarks.of(pair.ref)
    if gt is None or reference is None:
        return None
    return PairFaces(
        gt=read_rgb(store.images.path(pair.gt.sha256)),
        reference=read_rgb(store.images.path(pair.ref.sha256)),
        gt_landmarks=gt,
        reference_landmarks=reference,
        gt_region=store.mask(pair.gt.region_sha256),
        region=store.mask(pair.ref.region_sha256),
    )


def derive(store: Store, landmarks: Landmarks, pair: Pair) -> RuleProposal:
    """The rule's proposal for a pair; the whole face region with score 0 where a mesh is missing.

    Raises:
        NoAnalyser: meshes are missing and cannot be found here.
        OSError: a file is missing or damaged.
    """
    faces = pair_faces(store, landmarks, pair)
    if faces is None:
        return RuleProposal(store.mask(pair.ref.region_sha256), {}, 0.0)
    return propose_by_rule(faces)


def conflicts_of(
    store: Store, landmarks: Landmarks, pair: Pair, model_version: str
) -> frozenset[Conflict]:
    """The conflicts that a proposal of this version stands for; none where the version knows none.

    They are derived again and not stored: the rule gives the same for the same pair.
    """
    if model_version != RULE_VERSION:
        return frozenset()
    try:
        return derive(store, landmarks, pair).conflicts
    except (NoAnalyser, OSError):
        return frozenset()


def propose_first(
    store: Store, pairs: Sequence[Pair], landmarks: Landmarks, progress: Advance = silent
) -> ColdStartReport:
    """Propose masks for these pairs by rule; those that have one of the rule's are left.

    Where no mesh can be found, because mediapipe is missing, the face region itself is proposed for all,
    and the report's note says so.

    Args:
        store: the store.
        pairs: with their images loaded.
        landmarks: of the store's images.
        progress: told how many pairs are done, and of how many.
    """
    waiting = _without_rule(store, pairs)
    try:
        return _run(store, landmarks, waiting, 0, _Counted(progress, len(waiting)))
    except NoAnalyser as error:
        propose_face_region(store, pairs)
        return ColdStartReport(FACE_REGION, len(pairs), note=f"nothing is proposed yet: {error}")


def propose_undecided_by_rule(
    store: Store, landmarks: Landmarks, round_number: int, progress: Advance = silent
) -> ColdStartReport:
    """Propose a mask by rule for each pair that nobody has decided on and that has none of the rule's.

    Raises:
        NoAnalyser: meshes are missing and cannot be found here.
    """
    with store.reading() as session:
        total = count_undecided(session, without_model=RULE_VERSION)
    pairs = undecided(store, without_model=RULE_VERSION)
    return _run(store, landmarks, pairs, round_number, _Counted(progress, total))


@dataclass(frozen=True)
class _Counted:
    """A progress that knows how many pairs there are."""

    advance: Advance
    total: int


def _run(
    store: Store,
    landmarks: Landmarks,
    pairs: Iterable[Pair],
    round_number: int,
    progress: _Counted,
) -> ColdStartReport:
    report = ColdStartReport()
    progress.advance(0, progress.total)
    made = _proposals(store, pairs, landmarks, report)
    while batch := list(islice(made, STORE_EVERY)):
        report.proposed += add_proposals(store, RULE_VERSION, round_number, batch)
        progress.advance(report.proposed + report.set_aside.count, progress.total)
    return report


def _proposals(
    store: Store, pairs: Iterable[Pair], landmarks: Landmarks, report: ColdStartReport
) -> Iterator[NewProposal]:
    for pair in pairs:
        try:
            faces = pair_faces(store, landmarks, pair)
            region = store.mask(pair.ref.region_sha256) if faces is None else faces.region
        except (OSError, ValueError) as error:
            report.set_aside.add(pair.key, str(error))
            continue
        if faces is None:
            report.without_face += 1
            yield NewProposal(pair.id, region, 0.0)
        else:
            proposal = propose_by_rule(faces)
            yield NewProposal(pair.id, proposal.mask, proposal.score)


def _without_rule(store: Store, pairs: Sequence[Pair]) -> list[Pair]:
    with store.reading() as session:
        known = set(
            session.scalars(select(Proposal.pair_id).where(Proposal.model_version == RULE_VERSION))
        )
    return [pair for pair in pairs if pair.id not in known]

"""What a round asks of the store: where it stands, what it learns from, what is left to propose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import select

from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PageReview, record_page_review
from dataset_engine.store.pairs import choose_seeds
from dataset_engine.store.proposals import (
    FACE_REGION,
    NewProposal,
    add_proposals,
    bring_forward,
    propose_face_region,
)
from dataset_engine.store.queries import (
    count_undecided,
    latest_decision_id,
    latest_proposal,
    latest_round,
    reviewed_masks,
    seeds_annotated,
    seeds_open,
    status_report,
    usable_round,
)
from dataset_engine.store.reviews import Decision, EventKind, Source, rebuild, record
from dataset_engine.store.tables import (
    AnnotationProject,
    Identity,
    Pair,
    PairState,
    Proposal,
    Round,
)
from dataset_engine.taxonomy import Conflict, Split, Status


def test_rounds_are_told_apart_by_number_and_stage(store: Store) -> None:
    with store.writing() as session:
        assert latest_round(session) is None
        for number, stage in ((1, "done"), (2, "proposing"), (3, "training")):
            session.add(
                Round(
                    number=number,
                    model_version=f"unet-r{number}",
                    last_event_id=number,
                    stage=stage,
                    metrics={"unet": {"iou": 0.5, "f1": None}},
                )
            )
    with store.reading() as session:
        latest, usable = latest_round(session), usable_round(session)
        report = status_report(session)
    assert latest is not None
    assert usable is not None
    assert (latest.number, usable.number) == (3, 2)
    assert usable.metrics == {"unet": {"iou": 0.5, "f1": None}}
    assert usable.created_at.tzinfo is not None
    assert [made["stage"] for made in report.rounds] == ["done", "proposing", "training"]


def test_masks_of_an_older_version_are_brought_forward_for_what_nobody_decided(
    store: Store, fill: Callable[..., None]
) -> None:
    fill()
    masks = [np.zeros((512, 512), bool), np.ones((512, 512), bool)]
    add_proposals(store, "rule-1", 0, [NewProposal(n, masks[0], 0.8, 0.5) for n in (1, 2, 3)])
    add_proposals(store, "unet-r1", 1, [NewProposal(n, masks[1], 0.9, 0.2) for n in (1, 2, 4)])
    with store.reading() as session:
        key = session.get_one(Pair, 2).key
        decided = session.get_one(PairState, 2).mask_sha256
        made = session.scalars(select(Proposal.created_at).order_by(Proposal.pair_id)).all()
    at = datetime(2026, 11, 24, tzinfo=UTC)
    record_page_review(store, PageReview("click-000001", key, True, decided, "review:Anna", at))

    assert [bring_forward(store, "rule-1") for _ in range(2)] == [1, 0]

    with store.reading() as session:
        shown = [latest_proposal(session, n) for n in (1, 2, 3, 4)]
        states = [session.get_one(PairState, n) for n in (1, 2, 3, 4)]
        kept = session.scalars(select(Proposal).order_by(Proposal.pair_id)).all()
    assert [one.model_version for one in shown if one] == ["rule-1", "unet-r1", "rule-1", "unet-r1"]
    assert [state.proposal_id for state in states] == [one.id for one in shown if one]
    assert shown[0] is not None
    assert (shown[0].round, shown[0].score, shown[0].entropy) == (0, 0.8, 0.5)
    assert np.array_equal(store.mask(shown[0].mask_sha256), masks[0])
    assert sorted(one.created_at for one in kept) == sorted(made)
    assert rebuild(store, [1, 2, 3, 4]) == 0


def test_seeds_are_proposed_for_reviewed_and_learnt_from(
    store: Store, fill: Callable[..., None]
) -> None:
    fill(identities=4, images=3)
    with store.writing() as session:
        session.add(AnnotationProject(server="home", project=1))
        seeds = choose_seeds(session, 6)
    assert propose_face_region(store, seeds) == 6
    assert propose_face_region(store, seeds) == 0
    region = store.mask(seeds[0].ref.region_sha256)
    made = Decision(
        pair_id=seeds[0].id,
        project_id=1,
        annotation=1,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        kind=EventKind.SUBMITTED,
        source=Source.SYNC,
        actor="ann",
        accepted=True,
        mask=region,
        conflicts=frozenset({Conflict.MOUTH}),
    )
    smaller = region & (np.arange(512) < 300)
    for annotation, changes in enumerate(
        [{}, {"mask": smaller, "conflicts": frozenset({Conflict.BEARD})}, {"accepted": False}]
    ):
        record(store, replace(made, pair_id=seeds[annotation].id, annotation=annotation, **changes))
    with store.reading() as session:
        assert (seeds_annotated(session), seeds_open(session)) == (2, 3)
        assert count_undecided(session, "unet-r1") == 24 - 3
        assert count_undecided(session, FACE_REGION) == 24 - 6
        assert latest_decision_id(session) == 3
        proposal = latest_proposal(session, seeds[0].id)
        assert proposal is not None
        assert proposal.model_version == FACE_REGION
        report = status_report(session)
        masks = [
            (pair.id, mask)
            for split in Split
            for pair, mask in reviewed_masks(session, [split])
            if session.get_one(Identity, pair.identity_id).split == split
        ]
        states = dict(session.execute(select(PairState.pair_id, PairState.mask_sha256)).all())
    assert sorted(masks) == sorted((seed.id, states[seed.id]) for seed in seeds[:2])
    assert report.pairs == {
        Status.UNLABELLED: 18,
        Status.PROPOSED: 3,
        Status.ACCEPTED: 1,
        Status.ADJUSTED: 1,
        Status.REJECTED: 1,
        Status.ADJUDICATE: 0,
    }
    assert (report.seeds, report.seeds_annotated, report.events) == (6, 2, 3)
    assert (report.scenarios["mouth"], report.scenarios["beard"]) == (1, 1)

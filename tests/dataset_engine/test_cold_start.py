"""The first proposals by rule: what differs is taken out, each area under its own conflict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_engine.cold_start import landmarks as landmarks_module
from dataset_engine.cold_start.comparing import (
    compare_proposals,
    proposing_version,
    unet_measures_better,
)
from dataset_engine.cold_start.expression import differing, expression
from dataset_engine.cold_start.landmarks import FOLDER, Landmarks, NoAnalyser
from dataset_engine.cold_start.parts import LEFT_EYE, RIGHT_EYE, Part, facial_parts, part_at
from dataset_engine.cold_start.proposing import conflicts_of, derive, propose_first
from dataset_engine.cold_start.rule import RULE_VERSION, propose_by_rule
from dataset_engine.cold_start.texture import PairFaces, disagreement
from dataset_engine.cold_start.warp import piecewise_affine
from dataset_engine.faces.analyser import Face, MediapipeAnalyser
from dataset_engine.sample import Person, compare, shoot
from dataset_engine.store import Store
from dataset_engine.store.proposals import FACE_REGION
from dataset_engine.store.queries import latest_proposal, pair_by_key
from dataset_engine.store.tables import Pair, Round
from dataset_engine.taxonomy import Conflict
from models.metrics import Confusion


@pytest.fixture(scope="module")
def analyser() -> MediapipeAnalyser:
    return MediapipeAnalyser()


def faces_of(
    analyser: MediapipeAnalyser, identity: int, gt: int, ref: int
) -> tuple[PairFaces, Any]:
    person = Person(0, identity)
    shots = person.shot(gt), person.shot(ref)
    taken = [shoot(person, shot) for shot in shots]
    meshes = [analyser.analyse(one.image)[0].landmarks for one in taken]
    faces = PairFaces(
        taken[0].image, taken[1].image, meshes[0], meshes[1], taken[0].region, taken[1].region
    )
    return faces, compare(person, *shots)


@pytest.fixture(scope="module")
def open_mouth(analyser: MediapipeAnalyser) -> tuple[PairFaces, Any]:
    """A person who laughs in the ground truth and does not in the reference."""
    return faces_of(analyser, 0, 0, 1)


@pytest.fixture(scope="module")
def bearded(analyser: MediapipeAnalyser) -> tuple[PairFaces, Any]:
    """A person who has a beard in the ground truth and none in the reference."""
    return faces_of(analyser, 1, 0, 1)


def test_an_opened_mouth_is_taken_out_as_a_whole(open_mouth: tuple[PairFaces, Any]) -> None:
    faces, exact = open_mouth
    proposal = propose_by_rule(faces)
    assert Conflict.MOUTH in exact.conflicts
    area = proposal.areas[Conflict.MOUTH]
    truth = exact.conflict_areas[Conflict.MOUTH]
    assert (area & truth).sum() / truth.sum() > 0.9
    assert not (proposal.mask & area).any()
    assert Conflict.GLASSES not in proposal.conflicts
    assert Conflict.BEARD not in proposal.conflicts


def test_a_beard_is_found_by_texture_alone(bearded: tuple[PairFaces, Any]) -> None:
    faces, exact = bearded
    proposal = propose_by_rule(faces)
    assert proposal.conflicts == exact.conflicts == {Conflict.BEARD}
    scores = Confusion.count(proposal.mask, exact.mask, exact.region)
    assert scores.conflict_recall > 0.75
    assert scores.iou > scores.all_ones.iou + 0.15


def test_the_same_picture_twice_has_no_conflict(bearded: tuple[PairFaces, Any]) -> None:
    faces, _ = bearded
    same = PairFaces(
        faces.gt, faces.gt, faces.gt_landmarks, faces.gt_landmarks, faces.gt_region, faces.gt_region
    )
    proposal = propose_by_rule(same)
    assert not proposal.conflicts
    assert np.array_equal(proposal.mask, faces.gt_region)
    assert proposal.score > 0.99


def test_light_and_colour_cast_are_no_conflict(bearded: tuple[PairFaces, Any]) -> None:
    faces, _ = bearded
    side = np.linspace(0.7, 1.1, 512)[None, :, None] * np.array([1.0, 0.92, 0.8])
    lit = np.clip(faces.gt * side, 0, 255).astype(np.uint8)
    same = PairFaces(
        lit, faces.gt, faces.gt_landmarks, faces.gt_landmarks, faces.gt_region, faces.gt_region
    )
    assert not propose_by_rule(same).conflicts


def test_a_spot_on_either_face_is_pigmentation_on_the_reference(
    bearded: tuple[PairFaces, Any],
) -> None:
    faces, _ = bearded
    spotted = faces.reference.copy()
    where = np.zeros((512, 512), np.uint8)
    x, y = faces.reference_landmarks[50].round().astype(int)  # on the cheek
    cv2.circle(where, (int(x), int(y)), 9, 1, cv2.FILLED)
    spotted[where > 0] = (spotted[where > 0] * 0.55).astype(np.uint8)
    mesh, region = faces.reference_landmarks, faces.region
    for gt, reference in ((faces.reference, spotted), (spotted, faces.reference)):
        proposal = propose_by_rule(PairFaces(gt, reference, mesh, mesh, region, region))
        assert proposal.conflicts == {Conflict.PIGMENTATION}
        assert proposal.areas[Conflict.PIGMENTATION][where > 0].mean() > 0.9
        assert proposal.areas[Conflict.PIGMENTATION].sum() < 4 * where.sum()


def test_masks_stay_in_the_face_region_and_out_of_every_area(
    open_mouth: tuple[PairFaces, Any], bearded: tuple[PairFaces, Any]
) -> None:
    for faces, _ in (open_mouth, bearded):
        proposal = propose_by_rule(faces)
        taken = np.logical_or.reduce(list(proposal.areas.values()))
        assert np.array_equal(proposal.mask, faces.region & ~taken)
        assert not (taken & ~faces.region).any()
        assert 0 <= proposal.score <= 1
        again = propose_by_rule(faces)
        assert np.array_equal(again.mask, proposal.mask)


def test_expressions_are_told_by_the_published_threshold() -> None:
    points = np.zeros((478, 2), np.float32)
    points[list(LEFT_EYE)], points[list(RIGHT_EYE)] = (200, 240), (310, 240)
    points[[61, 291]] = [[200, 370], [300, 370]]
    points[[33, 133]] = [[180, 240], [220, 240]]
    points[[362, 263]] = [[290, 240], [330, 240]]
    closed, parted = points.copy(), points.copy()
    parted[14] = [250, 372.3]
    closed[13] = parted[13] = closed[14] = [250, 370]
    assert not differing(expression(closed), expression(parted))
    parted[14] = [250, 372.5]
    assert differing(expression(closed), expression(parted)) == {Conflict.MOUTH}


def test_the_warp_is_affine_in_each_triangle_and_exact_on_points() -> None:
    random = np.random.default_rng(3)
    reference = random.uniform(20, 230, (478, 2)).astype(np.float32)
    matrix = np.array([[0.9, 0.1], [-0.15, 1.1]], np.float32)
    gt = reference @ matrix.T + np.array([6, -4], np.float32)
    found = piecewise_affine(gt, reference, 256)
    y, x = np.nonzero(found[..., 0] != -1)
    assert len(y) > 20_000
    wanted = np.stack([x, y], axis=1) @ matrix.T + np.array([6, -4])
    assert np.abs(found[y, x] - wanted).max() < 0.05


def test_a_point_means_the_smallest_part(open_mouth: tuple[PairFaces, Any]) -> None:
    faces, _ = open_mouth
    parts = facial_parts(faces.reference_landmarks, faces.region)
    assert set(parts) == set(Part)
    mesh = faces.reference_landmarks
    for number, part in ((13, Part.MOUTH), (4, Part.NOSE), (50, Part.LEFT_CHEEK), (199, Part.CHIN)):
        assert part_at(parts, *mesh[number]) is part
    assert part_at(parts, *mesh[[33, 133]].mean(axis=0)) is Part.LEFT_EYE
    assert part_at(parts, *mesh[[362, 263]].mean(axis=0)) is Part.RIGHT_EYE
    assert part_at(parts, *mesh[105]) is Part.LEFT_BROW
    assert part_at(parts, *mesh[151]) is Part.FOREHEAD
    assert part_at(parts, -1, 600) is None
    assert part_at(parts, 3, 3) is None
    for area in parts.values():
        assert not (area & ~faces.region).any()


def test_nothing_is_known_where_the_ground_truth_shows_no_face(
    bearded: tuple[PairFaces, Any],
) -> None:
    faces, _ = bearded
    hidden = PairFaces(
        faces.gt,
        faces.reference,
        faces.gt_landmarks,
        faces.reference_landmarks,
        np.zeros_like(faces.gt_region),
        faces.region,
    )
    assert not disagreement(hidden).any()


class OneFace:
    """An analyser that finds the same mesh in every image."""

    def __init__(self, mesh: NDArray[np.float32], five_points: list[list[float]]) -> None:
        self.face = Face(np.asarray(five_points, np.float32), mesh, np.zeros(4, np.float32), 1.0)
        self.calls = 0

    def analyse(self, image: NDArray[np.uint8]) -> list[Face]:
        assert image.shape == (512, 512, 3)
        self.calls += 1
        return [self.face]

    def person(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ones(image.shape[:2], np.float32)


@pytest.fixture
def pair(fill: Callable[..., None], first_pair: Callable[[], Pair]) -> Pair:
    fill(identities=1)
    return first_pair()


def five(pair: Pair) -> list[list[float]]:
    return [[193.0, 240.0], [319.0, 240.0], [256.0, 314.0], [201.0, 371.0], [313.0, 371.0]]


def test_a_mesh_is_found_once_and_kept(
    store: Store, pair: Pair, open_mouth: tuple[PairFaces, Any]
) -> None:
    mesh = open_mouth[0].gt_landmarks
    pair.gt.five_points = five(pair)
    one = OneFace(mesh, five(pair))
    landmarks = Landmarks(store, one)
    for _ in range(2):
        assert np.array_equal(landmarks.of(pair.gt), mesh)  # type: ignore[arg-type]
    other = OneFace(mesh, five(pair))
    assert np.array_equal(Landmarks(store, other).of(pair.gt), mesh)  # type: ignore[arg-type]
    assert (one.calls, other.calls) == (1, 0)
    (kept,) = (store.home / FOLDER).rglob("*.npy")
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(Landmarks(store, other).of(pair.gt), mesh)  # type: ignore[arg-type]
    assert other.calls == 1


def test_another_face_than_the_known_points_is_none(store: Store, pair: Pair) -> None:
    pair.gt.five_points = five(pair)
    far = [[x + 200, y] for x, y in five(pair)]
    analyser = OneFace(np.zeros((478, 2), np.float32), far)
    landmarks = Landmarks(store, analyser)
    assert landmarks.of(pair.gt) is None
    assert Landmarks(store, analyser).of(pair.gt) is None
    assert analyser.calls == 1


def test_without_a_face_the_whole_region_is_proposed(store: Store, pair: Pair) -> None:
    report = propose_first(store, [pair], Landmarks(store))
    assert (report.model_version, report.proposed, report.without_face) == (RULE_VERSION, 1, 1)
    with store.reading() as session:
        proposal = latest_proposal(session, pair.id)
    assert proposal is not None
    assert (proposal.model_version, proposal.score) == (RULE_VERSION, 0.0)
    assert np.array_equal(store.mask(proposal.mask_sha256), store.mask(pair.ref.region_sha256))
    assert propose_first(store, [pair], Landmarks(store)).proposed == 0


def test_without_mediapipe_the_face_region_is_proposed_and_it_is_said(
    store: Store, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise RuntimeError("the face analyser needs mediapipe")

    monkeypatch.setattr(landmarks_module, "_mediapipe", missing)
    landmarks = Landmarks(store)
    report = propose_first(store, [pair], landmarks)
    assert report.model_version == FACE_REGION
    assert "needs mediapipe" in report.note
    with pytest.raises(NoAnalyser):
        derive(store, landmarks, pair)
    assert conflicts_of(store, landmarks, pair, RULE_VERSION) == frozenset()
    landmarks.warm_up()


def test_a_broken_image_stops_no_other(store: Store, fill: Callable[..., None]) -> None:
    fill(identities=2)
    with store.reading() as session:
        keys = [session.get_one(Pair, number).key for number in (1, 3)]
        pairs = [pair_by_key(session, key) for key in keys]
    broken, sound = pairs
    assert broken is not None
    assert sound is not None
    Path(store.images.path(broken.gt.sha256)).write_bytes(b"no image")
    report = propose_first(store, [broken, sound], Landmarks(store))
    assert report.proposed == 1
    assert list(report.set_aside.reasons) == [broken.key]


@pytest.mark.parametrize(
    ("unet", "rule", "better"),
    [(0.9, 0.8, True), (0.8, 0.8, False), (0.7, 0.8, False), (None, 0.8, False), (0.5, None, True)],
)
def test_the_u_net_takes_over_only_where_it_measures_better(
    unet: float | None, rule: float | None, better: bool
) -> None:
    metrics: dict[str, Any] = {"unet": {"iou": unet}}
    if rule is not None:
        metrics["rule"] = {"iou": rule}
    assert unet_measures_better(metrics) is better
    round_ = Round(number=1, model_version="unet-r1", metrics=metrics, stage="done")
    assert proposing_version(round_) == ("unet-r1" if better else RULE_VERSION)


def test_without_a_reviewed_pair_there_is_nothing_to_compare(store: Store, pair: Pair) -> None:
    assert pair.id
    with pytest.raises(ValueError, match="reviewed yet"):
        compare_proposals(store, Landmarks(store))

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from restoration.own_reference import OwnReferences, with_own_reference
from restoration.refstar_config import FaceData
from restoration.refstar_data import Face, FaceMaker, training_batches

DATA = FaceData(size=64, workers=0)


@pytest.fixture
def face(refstar_faces) -> Face:
    return FaceMaker(refstar_faces.train, DATA, 0)(0, 1)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_reference_becomes_the_truth_in_other_light_and_a_little_elsewhere(face):
    own = with_own_reference(face, np.random.default_rng(0))
    assert np.array_equal(own.truth, face.truth)
    assert np.array_equal(own.degraded, face.degraded)
    assert 0.7 < _alike(own.reference, face.truth) < 0.99
    assert _alike(own.reference[::-1], face.truth) < 0.5
    darker, brighter = (
        with_own_reference(face, np.random.default_rng(n)).reference.mean() for n in (1, 2)
    )
    assert abs(darker - brighter) > 5


def test_its_mask_is_the_faces_region_moved_along(face):
    own = with_own_reference(face, np.random.default_rng(1))
    assert own.mask.dtype == np.bool_
    both, either = (own.mask & face.region).sum(), (own.mask | face.region).sum()
    assert 0.85 < both / either < 1


def test_a_mask_that_keeps_nothing_stays_empty(face):
    empty = replace(face, mask=np.zeros_like(face.mask))
    assert not with_own_reference(empty, np.random.default_rng(1)).mask.any()


def test_the_degraded_reference_is_that_of_the_same_picture(face):
    plain = replace(face, degraded=face.truth)
    own = with_own_reference(plain, np.random.default_rng(2))
    assert np.array_equal(own.degraded_reference, own.reference)


def test_the_share_of_own_references_falls_from_all_to_none(face):
    own = OwnReferences(examples=400, seed=3)
    drawn = [own(face, position).reference is not face.reference for position in range(600)]
    assert all(drawn[:8])
    assert 25 < sum(drawn[150:250]) < 75
    assert not any(drawn[400:])


def test_an_example_depends_on_its_position_alone(refstar_faces):
    pairs, own = refstar_faces.train, OwnReferences(8, 0)

    def batches(numbers: range, **others: int) -> list[torch.Tensor]:
        made = training_batches(
            FaceMaker(pairs, DATA, 0),
            len(pairs),
            5,
            numbers,
            device=torch.device("cpu"),
            practise=own,
            **others,
        )
        return [batch.reference for batch in made]

    whole = batches(range(4), size=2)
    halves = [batches(range(4), size=1, process=n, processes=2) for n in (0, 1)]
    assert all(
        torch.equal(both, torch.cat([one, other]))
        for both, one, other in zip(whole, *halves, strict=True)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(whole[2:], batches(range(2, 4), size=2), strict=True)
    )

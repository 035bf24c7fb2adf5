from __future__ import annotations

import math

import numpy as np
import pytest

from models.metrics import Confusion, boundary_f_score, summarise, summarise_all_ones


def _masks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    region = np.zeros((8, 8), bool)
    region[1:7, 1:7] = True
    mask = region.copy()
    mask[1:3, 1:7] = False
    predicted = region.copy()
    predicted[1:2, 1:7] = False
    predicted[6, 6] = False
    predicted[0, 0] = True
    return predicted, mask, region


def test_counts_are_taken_in_the_face_region_alone():
    confusion = Confusion.count(*_masks())
    assert confusion == Confusion(
        kept_consistent=23, kept_conflict=6, dropped_consistent=1, dropped_conflict=6
    )
    assert confusion.accuracy == pytest.approx(29 / 36)
    assert confusion.iou == pytest.approx(23 / 30)
    assert confusion.conflict_recall == pytest.approx(0.5)
    assert confusion.conflict_precision == pytest.approx(6 / 7)
    assert confusion.conflict_iou == pytest.approx(6 / 13)


def test_the_all_ones_mask_is_right_on_the_consistent_share():
    _, mask, region = _masks()
    assert Confusion.count(*_masks()).all_ones == Confusion.count(region, mask, region)
    assert Confusion.count(*_masks()).all_ones.conflict_recall == 0.0


def test_counts_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    predicted, mask, region = (rng.random((9, 9)) > 0.5 for _ in range(3))
    loop = [0, 0, 0, 0]
    for y in range(9):
        for x in range(9):
            if region[y, x]:
                loop[(0 if predicted[y, x] else 2) + (0 if mask[y, x] else 1)] += 1
    assert Confusion.count(predicted, mask, region) == Confusion(*loop)


def test_a_pair_without_conflicts_has_no_recall_but_counts_for_accuracy():
    clean = Confusion(kept_consistent=90, dropped_consistent=10)
    assert math.isnan(clean.conflict_recall)
    scores = summarise([clean, Confusion(kept_consistent=50, dropped_conflict=50)])
    assert scores.pairs == 2
    assert scores.accuracy == pytest.approx(0.95)
    assert scores.conflict_recall == 1.0
    assert scores.conflict_precision == pytest.approx(50 / 60)
    assert scores.conflict_recall_by_pair == 1.0


def test_pooled_recall_weighs_pixels_and_the_other_weighs_pairs():
    small = Confusion(kept_consistent=100, kept_conflict=10)
    large = Confusion(kept_consistent=100, dropped_conflict=990)
    scores = summarise([small, large])
    assert scores.conflict_recall == pytest.approx(0.99)
    assert scores.conflict_recall_by_pair == pytest.approx(0.5)
    assert summarise_all_ones([small, large]).conflict_recall == 0.0


def test_nothing_to_count_is_not_a_number():
    scores = summarise([])
    assert scores.pairs == 0
    assert math.isnan(scores.accuracy)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ"):
        Confusion.count(np.ones((2, 2), bool), np.ones((2, 3), bool), np.ones((2, 2), bool))


def test_boundary_score_forgives_a_few_pixels_and_no_more():
    region = np.ones((64, 64), bool)
    mask = region.copy()
    mask[20:40, 20:40] = False
    near, far = region.copy(), region.copy()
    near[22:42, 20:40] = False
    far[48:60, 48:60] = False
    assert boundary_f_score(mask, mask, region) == 1.0
    assert boundary_f_score(near, mask, region) == 1.0
    assert boundary_f_score(far, mask, region) == 0.0
    assert boundary_f_score(region, mask, region) == 0.0
    assert boundary_f_score(region, region, region) == 1.0

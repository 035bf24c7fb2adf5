from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dataset_engine.shards.augmentation import (
    AugmentationSettings,
    PairAugmentation,
    TrainingPair,
    shrink,
)

STILL = AugmentationSettings(
    flip=0.0,
    shared_shift=0.0,
    shared_scale=0.0,
    shared_turn=0.0,
    own_shift=0.0,
    own_scale=0.0,
    own_turn=0.0,
    photometric=0.0,
    same_share=0.0,
    transplant_share=0.0,
)


def _pair(side: int = 128) -> TrainingPair:
    """Images whose brightness tells the masks: 200 where consistent, 100 conflict, 0 outside."""
    region, conflict = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    cv2.circle(region, (side // 2 - 8, side // 2), side // 3, 1, -1)
    cv2.circle(conflict, (side // 2 - 16, side // 2 + 8), side // 8, 1, -1)
    mask = (region > 0) & (conflict == 0)
    reference = np.repeat((region * 100 + mask * 100).astype(np.uint8)[..., None], 3, axis=2)
    first = np.full_like(reference, 30)
    return TrainingPair(first, reference, mask, region > 0)


@pytest.mark.parametrize("seed", range(5))
def test_mask_and_region_follow_the_reference(seed):
    moving = PairAugmentation(replace(AugmentationSettings(), photometric=0.0))
    moved = moving.move_and_light(_pair(), seed)
    from_image = moved.reference[..., 0] > 150
    assert (from_image != moved.mask).mean() < 0.01
    assert ((moved.reference[..., 0] > 50) != moved.region).mean() < 0.01
    assert not (moved.mask & ~moved.region).any()
    assert not np.array_equal(moved.mask, _pair().mask)


def test_the_same_seed_gives_the_same_example_whatever_came_before():
    one, other = (PairAugmentation(AugmentationSettings()) for _ in range(2))
    one.move_and_light(_pair(), 7)
    again, fresh = one.move_and_light(_pair(), 8), other.move_and_light(_pair(), 8)
    for name in ("first", "reference", "mask", "region"):
        assert np.array_equal(getattr(again, name), getattr(fresh, name))


def test_each_image_has_its_own_light():
    pair = replace(_pair(), first=_pair().reference)
    lit = PairAugmentation(replace(STILL, photometric=1.0)).move_and_light(pair, 3)
    assert not np.array_equal(lit.first, lit.reference)
    assert np.array_equal(lit.mask, pair.mask)


def test_without_any_change_an_example_stays_as_it_is():
    pair = _pair()
    still = PairAugmentation(STILL)
    same = still.move_and_light(still.mix(pair, 0), 0)
    for name in ("first", "reference", "mask", "region"):
        assert np.array_equal(getattr(same, name), getattr(pair, name))


def test_a_mirrored_example_is_moved_in_no_other_way():
    mirrored = PairAugmentation(replace(STILL, flip=1.0)).move_and_light(_pair(), 0)
    for name in ("first", "reference", "mask", "region"):
        assert np.array_equal(getattr(mirrored, name), getattr(_pair(), name)[:, ::-1])


def test_another_light_keeps_the_order_of_each_colours_levels():
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    nothing = np.zeros((1, 256), np.bool_)
    relit = PairAugmentation(replace(STILL, photometric=1.0)).move_and_light(
        TrainingPair(levels, levels, nothing, nothing), 3
    )
    for image in (relit.first, relit.reference):
        assert (np.diff(image.astype(int), axis=1) >= 0).all()
        assert not np.array_equal(image, levels)


def test_a_reference_compared_with_itself_has_no_conflict():
    mixed = PairAugmentation(replace(STILL, same_share=1.0)).mix(_pair(), 0)
    assert np.array_equal(mixed.first, mixed.reference)
    assert np.array_equal(mixed.mask, mixed.region)


def test_a_transplanted_patch_becomes_consistent_and_nothing_else_does():
    pair = _pair()
    transplanting = PairAugmentation(replace(STILL, transplant_share=1.0))
    gained = 0
    for seed in range(10):
        mixed = transplanting.mix(pair, seed)
        new = mixed.mask & ~pair.mask
        gained += int(new.sum())
        assert not (pair.mask & ~mixed.mask).any()
        assert not (mixed.mask & ~mixed.region).any()
        apart = np.abs(mixed.first.astype(int) - mixed.reference)[new].mean() if new.any() else 0
        assert apart < 0.25 * np.abs(pair.first.astype(int) - pair.reference)[pair.region].mean()
    assert gained > 0


def test_shrinking_keeps_masks_by_majority():
    small = shrink(_pair(128), 64)
    assert small.first.shape == (64, 64, 3)
    assert abs(small.mask.sum() * 4 / _pair(128).mask.sum() - 1) < 0.05
    assert ((small.reference[..., 0] >= 150) != small.mask).mean() < 0.02

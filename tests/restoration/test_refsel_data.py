from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dataset_engine.degradation import preset
from dataset_engine.shards.augmentation import AugmentationSettings, PairAugmentation
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.taxonomy import Conflict, Scenario
from restoration.refsel_data import ExampleMaker, make_example

PAPER = preset("paper")
NEVER_SEVERE = replace(PAPER, severe_threshold=0.0)
ALWAYS_SEVERE = replace(PAPER, severe_threshold=1.0)
UNMIXED = AugmentationSettings(same_share=0, transplant_share=0)


class _One:
    def __init__(self, sample: RefSelSample) -> None:
        self._sample = sample

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> RefSelSample:
        return self._sample


@pytest.fixture(scope="module")
def sample() -> RefSelSample:
    rng = np.random.default_rng(0)
    gt, reference = (
        cv2.resize(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (512, 512)) for _ in range(2)
    )
    gt_region, ref_region = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    gt_region[100:400, 100:400] = True
    ref_region[120:420, 90:390] = True
    mask = ref_region.copy()
    mask[300:360, 200:300] = False
    return RefSelSample(
        gt, reference, mask, gt_region, ref_region, "pair-1", "a", (Conflict.MOUTH, Conflict.BEARD)
    )


def test_the_ground_truth_is_degraded_and_the_reference_is_not(sample):
    example = make_example(sample, 3, NEVER_SEVERE)
    assert np.array_equal(example.gt, sample.gt)
    assert not np.array_equal(example.pair.first, sample.gt)
    assert np.array_equal(example.pair.reference, sample.reference)
    assert np.array_equal(example.pair.mask, sample.mask)
    assert example.scenarios == (Scenario.MOUTH, Scenario.BEARD)
    assert not example.severe


def test_severe_inputs_may_use_the_whole_face_region_of_the_reference(sample):
    example = make_example(sample, 3, ALWAYS_SEVERE)
    assert example.severe
    assert np.array_equal(example.pair.mask, sample.ref_region)


def test_an_example_is_a_function_of_its_seed(sample):
    first, again, other = (
        make_example(sample, seed, NEVER_SEVERE, PairAugmentation(AugmentationSettings()), side=128)
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first.pair.first, again.pair.first)
    assert np.array_equal(first.pair.mask, again.pair.mask)
    assert not np.array_equal(first.pair.first, other.pair.first)
    assert first.pair.first.shape == (128, 128, 3)
    assert not (first.pair.mask & ~first.pair.region).any()


def test_a_clean_example_keeps_all_detail_and_is_never_severe(sample):
    example = make_example(sample, 3, ALWAYS_SEVERE, clean=True)
    assert np.array_equal(example.pair.first, sample.gt)
    assert example.detail_kept == 1.0
    assert not example.severe
    assert np.array_equal(example.pair.mask, sample.mask)


def test_the_share_of_clean_examples_is_the_one_asked_for(sample):
    maker = ExampleMaker(_One(sample), PAPER, AugmentationSettings(), side=64)
    made = [
        [maker(0, seed, share).detail_kept == 1.0 for seed in range(12)] for share in (0, 0.5, 1)
    ]
    assert not any(made[0])
    assert any(made[1])
    assert not all(made[1])
    assert all(made[2])


def test_a_triplet_has_as_many_degradations_as_variants_and_each_is_relit_anew(sample):
    makers = [
        ExampleMaker(_One(sample), PAPER, UNMIXED, side=64, variants=2, kept_bytes=kept)
        for kept in (0, 10**9)
    ]
    for _ in range(2):  # the second time they are taken from memory
        made, kept = ([maker(0, epoch) for epoch in range(4)] for maker in makers)
        for one, other in zip(made, kept, strict=True):
            assert np.array_equal(one.pair.first, other.pair.first)
            assert np.array_equal(one.pair.mask, other.pair.mask)
    assert kept[0].detail_kept == kept[2].detail_kept != kept[1].detail_kept
    assert not np.array_equal(kept[0].pair.first, kept[2].pair.first)


def test_no_more_is_kept_in_memory_than_fits(sample):
    class Counted(_One):
        reads = 0

        def __getitem__(self, index: int) -> RefSelSample:
            self.reads += 1
            return super().__getitem__(index)

    one = 2 * 64 * 64 * (3 + 1)
    counted = Counted(sample)
    maker = ExampleMaker(counted, PAPER, UNMIXED, side=64, variants=3, kept_bytes=2 * one)
    for epoch in range(9):
        maker(0, epoch)
    assert counted.reads == 2 + 3


def test_a_severe_example_stays_whole_under_augmentation(sample):
    example = make_example(sample, 5, ALWAYS_SEVERE, PairAugmentation(AugmentationSettings()))
    assert np.array_equal(example.pair.mask, example.pair.region)

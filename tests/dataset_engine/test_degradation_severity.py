"""Detail kept falls with blur, noise, JPEG and distance, and noise never counts as detail."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from dataset_engine.degradation import (
    degrade,
    detail_kept,
    detail_kept_by_band,
    is_severe,
    preset,
)
from dataset_engine.degradation.pipeline import jpeg


@pytest.fixture(scope="module")
def region():
    y, x = np.mgrid[:256, :256]
    return ((x - 128) / 80) ** 2 + ((y - 136) / 100) ** 2 < 1


@pytest.fixture(scope="module")
def face():
    """A field with as much energy in every octave as a photograph has, uint8 [256, 256, 3]."""
    rng = np.random.default_rng(2)
    layers = [
        cv2.GaussianBlur(rng.normal(size=(256, 256)), (0, 0), s) * s for s in (0.7, 1.5, 3, 6)
    ]
    grey = np.clip(sum(layers) * 25 + 128, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def noisy(image, sigma):
    field = np.random.default_rng(8).normal(0, sigma, image.shape)
    return np.clip(image + field, 0, 255).astype(np.uint8)


def assert_falls(values):
    assert all(before > after for before, after in pairwise(values)), values
    assert all(0 <= value <= 1 for value in values)


def test_the_ground_truth_itself_keeps_everything(face, region):
    assert detail_kept(face, face, region) == pytest.approx(1)


def test_blur_takes_detail_away_from_the_finest_band_up(face, region):
    blurred = [cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (0.6, 1, 2, 4, 8)]
    assert_falls([detail_kept(face, image, region) for image in blurred])
    assert detail_kept(face, blurred[-1], region) < 0.1
    assert_falls(detail_kept_by_band(face, blurred[2], region)[::-1])


def test_noise_hides_detail(face, region):
    assert_falls([detail_kept(face, noisy(face, sigma), region) for sigma in (2, 10, 30, 80)])


def test_noise_does_not_count_as_detail(face, region):
    blurred = cv2.GaussianBlur(face, (0, 0), 3)
    quiet = detail_kept(face, blurred, region)
    assert detail_kept(face, noisy(blurred, 20), region) < quiet + 0.005
    assert detail_kept(face, noisy(np.full_like(face, 128), 40), region) < 0.01


def test_jpeg_and_a_small_size_take_detail_away(face, region):
    kept = [detail_kept(face, jpeg(face, quality), region) for quality in (95, 50, 20, 5)]
    assert_falls(kept)
    sizes = [
        cv2.resize(cv2.resize(face, (n, n), interpolation=cv2.INTER_AREA), (256, 256))
        for n in (192, 96, 48, 24)
    ]
    assert_falls([detail_kept(face, image, region) for image in sizes])


def test_detail_of_another_face_or_turned_over_is_not_kept(face, region):
    assert detail_kept(face, np.ascontiguousarray(face[::-1]), region) < 0.02
    assert detail_kept(face, 255 - face, region) == 0


def test_sharpened_detail_is_kept_as_it_can_be_turned_down(face, region):
    unsharp = 2.0 * face - cv2.GaussianBlur(face, (0, 0), 1)
    sharp = np.clip(unsharp, 0, 255).astype(np.uint8)
    assert 0.9 < detail_kept(face, sharp, region) < 1


def test_brightness_and_colour_do_not_matter(face, region):
    darker = (face.astype(float) - 15).clip(0, 255).astype(np.uint8)
    assert detail_kept(face, darker, region) > 0.97


def test_only_the_face_region_counts(face, region):
    outside = face.copy()
    outside[~cv2.dilate(region.astype(np.uint8), np.ones((49, 49))).astype(bool)] = 0
    assert detail_kept(face, outside, region) > 0.99
    inside = cv2.GaussianBlur(face, (0, 0), 8)
    inside[~region] = face[~region]
    assert detail_kept(face, inside, region) < 0.15


def test_a_flat_ground_truth_has_nothing_to_lose(region):
    flat = np.full((256, 256, 3), 100, np.uint8)
    assert detail_kept(flat, noisy(flat, 10), region) == 1


def test_a_region_of_one_pixel_at_the_corner_is_measured(face):
    region = np.zeros((256, 256), bool)
    region[0, 0] = True
    assert detail_kept(face, face, region) == pytest.approx(1)


def test_severe_is_below_the_threshold(face, region):
    blurred = cv2.GaussianBlur(face, (0, 0), 2)
    kept = detail_kept(face, blurred, region)
    assert is_severe(face, blurred, region, kept + 0.01)
    assert not is_severe(face, blurred, region, kept)


def test_harsher_presets_have_more_severe_samples(face, region):
    shares = []
    for name in ("paper", "gfpgan", "codeformer-large"):
        settings = preset(name)
        severe = [
            is_severe(face, degrade(face, s, settings).image, region, settings.severe_threshold)
            for s in range(40)
        ]
        shares.append(np.mean(severe))
    assert shares[0] < shares[1] < shares[2]


def test_what_does_not_fit_is_refused(face, region):
    with pytest.raises(ValueError, match="the face region is empty"):
        detail_kept(face, face, np.zeros_like(region))
    with pytest.raises(ValueError, match="two uint8 images of one shape"):
        detail_kept(face, face[:100], region)
    with pytest.raises(ValueError, match="expected a bool face region"):
        detail_kept(face, face, region.astype(np.uint8))

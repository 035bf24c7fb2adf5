"""Each operation of the fast path against the plain one in benchmarks/degradation_plain.py."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.special import j1

from dataset_engine.degradation import apply, preset
from dataset_engine.degradation.draw import draw
from dataset_engine.degradation.filters import Direct, Separable, Transform, choose, convolve, trim
from dataset_engine.degradation.kernels import _bessel_j1, kernel
from dataset_engine.degradation.noise import add_noise, normal
from dataset_engine.degradation.parameters import (
    DefocusBlur,
    FamilyBlur,
    GaussianNoise,
    MotionBlur,
    PoissonNoise,
    SincBlur,
)
from dataset_engine.degradation.pipeline import as_uint8, jpeg
from dataset_engine.degradation.settings import Family

PLAIN = Path(__file__).parents[2] / "benchmarks" / "degradation_plain.py"
FAMILIES = [
    FamilyBlur(family, size, 2.3, 2.3 if "aniso" not in family else 0.7, 0.6, beta)
    for family, beta in zip(Family, (1, 1, 0.6, 3.2, 1.3, 1.8), strict=True)
    for size in (7, 21)
]
BLURS = [
    *FAMILIES,
    FamilyBlur(Family.ISO, 41, 9.0, 9.0, 0.0, 1.0),
    FamilyBlur(Family.ANISO, 41, 8.0, 3.0, 1.1, 1.0),
    FamilyBlur(Family.ISO, 7, 0.0, 0.0, 0.0, 1.0),
    *(SincBlur(size, cutoff) for size in (7, 9, 13, 21) for cutoff in (math.pi / 5, 2.0, math.pi)),
    *(MotionBlur(length, 0.4 * length, 1.2, seed) for seed, length in enumerate((3, 8, 14, 20))),
    MotionBlur(12.0, 0.0, 0.0, 3),
    *(DefocusBlur(radius, edge) for radius, edge in ((1, 0.5), (2.5, 1.5), (6, 1))),
]


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("degradation_plain", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def picture():
    """Smooth shapes, edges and fine texture, uint8 [160, 144, 3]."""
    rng = np.random.default_rng(5)
    smooth = cv2.GaussianBlur(rng.normal(size=(160, 144, 3)), (0, 0), 6) * 400 + 128
    smooth[40:90, 30:100] += 60
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def same_size(small, large):
    margins = [(a - b) // 2 for a, b in zip(large.shape, small.shape, strict=True)]
    return np.pad(small, [(margin, margin) for margin in margins])


@pytest.mark.parametrize("blur", BLURS, ids=str)
def test_kernels_equal_their_definitions(plain, blur):
    fast = kernel(blur)
    assert fast.shape[0] % 2 == fast.shape[1] % 2 == 1
    assert fast.sum() == pytest.approx(1)
    expected = plain.plain_kernel(blur)
    np.testing.assert_allclose(same_size(fast, expected), expected, atol=1e-9)


@pytest.mark.parametrize("blur", BLURS, ids=str)
def test_kernels_do_not_move_the_picture(blur):
    fast = kernel(blur)
    rows, columns = (np.arange(side) - side // 2 for side in fast.shape)
    assert (fast.sum(axis=1) * rows).sum() == pytest.approx(0, abs=1e-9)
    assert (fast.sum(axis=0) * columns).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("blur", BLURS, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_filtering_equals_filter2d_to_a_fifth_of_a_grey_level(plain, picture, blur, dtype):
    expected = plain.plain_filter(picture.astype(np.float32), plain.plain_kernel(blur))
    result = convolve(picture.astype(dtype), kernel(blur))
    assert result.dtype == np.float32
    difference = np.abs(result - expected)
    assert difference.max() < 0.2
    assert difference.mean() < 0.05


def test_all_three_ways_of_filtering_are_taken(picture):
    plans = {type(choose(kernel(blur), np.zeros((512, 512, 3), np.uint8))) for blur in BLURS}
    assert plans == {Separable, Direct, Transform}


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 3), (17, 5, 3), (33, 31)])
def test_filtering_holds_for_pictures_smaller_than_the_kernel(shape):
    picture = np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)
    for blur in (FAMILIES[1], SincBlur(21, 1.5), DefocusBlur(6, 1)):
        expected = cv2.filter2D(picture, -1, kernel(blur), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(
            convolve(picture, kernel(blur)), expected.reshape(shape), atol=0.3
        )


def test_trimming_drops_only_what_is_negligible():
    wide = kernel(FamilyBlur(Family.ISO, 21, 0.8, 0.8, 0.0, 1.0))
    cut = trim(wide)
    assert cut.shape < wide.shape
    assert np.abs(same_size(cut, wide) - wide).sum() < 2e-3
    assert trim(kernel(FamilyBlur(Family.ISO, 21, 0.0, 0.0, 0.0, 1.0))).shape == (1, 1)


def test_bessel_function():
    x = np.linspace(0, 48, 500)
    np.testing.assert_allclose(_bessel_j1(x), j1(x), atol=1e-8)


@pytest.mark.parametrize("blur", BLURS, ids=str)
def test_filtering_keeps_a_flat_picture_as_bright_as_it_was(blur):
    flat = np.full((64, 64, 3), 200, np.uint8)
    np.testing.assert_allclose(convolve(flat, kernel(blur)), 200, atol=0.01)


def test_normal_deviates_are_normal():
    sample = normal(7, (300_000,), 2.0) / 2
    assert sample.mean() == pytest.approx(0, abs=0.01)
    assert sample.std() == pytest.approx(1, abs=0.01)
    assert (sample**3).mean() == pytest.approx(0, abs=0.03)
    assert (sample**4).mean() == pytest.approx(3, abs=0.1)
    for limit, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert (np.abs(sample) < limit).mean() == pytest.approx(share, abs=0.003)
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 0.01


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_equals_the_plain_one_in_law(plain, gray):
    flat = np.full((256, 256, 3), 120, np.float32)
    noise = GaussianNoise(14.0, gray, 9)
    fast = add_noise(flat.copy(), noise) - 120
    slow = plain.plain_noise(flat / 255, noise) * 255 - 120
    for field in (fast, slow):
        assert field.std() == pytest.approx(14, rel=0.03)
        assert field.mean() == pytest.approx(0, abs=0.3)
        agreement = np.corrcoef(field[..., 0].ravel(), field[..., 2].ravel())[0, 1]
        assert agreement == pytest.approx(1 if gray else 0, abs=0.02)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("level", [4, 40, 130, 220])
def test_poisson_noise_grows_with_the_light_as_the_exact_one(plain, gray, level):
    # All levels occur, so that Real-ESRGAN's own count of levels is 256.
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None], 512, axis=1)
    picture = np.repeat(ramp[..., None], 3, axis=2)
    noise = PoissonNoise(1.0, gray, 4)
    window = slice(level - 4, level + 5)
    fast = (add_noise(picture.copy(), noise) - picture)[window]
    slow = (plain.plain_noise(picture / 255, noise) * 255 - picture)[window]
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)
    assert fast.std() == pytest.approx(math.sqrt(level * 255 / 256), rel=0.12)
    assert abs(fast.mean() - slow.mean()) < 0.12 * fast.std()


def test_noise_is_clipped_and_made_anew_by_each_seed():
    dark = add_noise(np.zeros((32, 32, 3), np.float32), GaussianNoise(20, False, 1))
    assert dark.min() == 0
    light = add_noise(np.full((32, 32, 3), 255, np.float32), PoissonNoise(2, True, 1))
    assert light.max() == 255
    assert not np.array_equal(normal(1, (8, 8, 3), 1), normal(2, (8, 8, 3), 1))


def test_rounding_saturates():
    values = np.array([[[-40.0, 0.4, 0.6], [254.6, 300.0, 128.0]]], np.float32)
    assert as_uint8(values).tolist() == [[[0, 0, 1], [255, 255, 128]]]


@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_equals_the_plain_one(plain, picture, quality):
    slow = plain.plain_jpeg(picture[..., ::-1].astype(np.float32) / 255, quality)[..., ::-1] * 255
    assert np.array_equal(jpeg(picture, quality), np.round(slow))


@pytest.mark.parametrize("name", ["paper", "gfpgan", "ref-ldm"])
def test_whole_degradation_without_noise_equals_the_plain_one(plain, picture, name):
    differences = []
    for seed in range(12):
        drawn = draw(seed, 160, 144, preset(name))
        quiet = [dataclasses.replace(stage, noise=None) for stage in drawn.stages]
        parameters = dataclasses.replace(drawn, stages=tuple(quiet))
        slow = plain.plain_apply(picture, parameters).astype(float)
        differences.append(np.abs(slow - apply(picture, parameters)).mean())
    # A value that rounds the other way before a JPEG may change a coefficient of its block, and a
    # factor of 8 makes blocks of the whole picture.
    assert np.mean(differences) < 0.4
    assert max(differences) < 2

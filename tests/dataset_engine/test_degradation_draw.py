"""Every drawn parameter follows its published law."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from dataset_engine.degradation import preset
from dataset_engine.degradation.draw import draw
from dataset_engine.degradation.parameters import (
    DefocusBlur,
    FamilyBlur,
    GaussianNoise,
    MotionBlur,
    PoissonNoise,
    SincBlur,
)
from dataset_engine.degradation.settings import Family, Interpolation

COUNT = 4000


@pytest.fixture(scope="module")
def draws():
    return [draw(seed, 512, 512, preset("paper")) for seed in range(COUNT)]


def assert_share(hits, total, expected):
    """Within five standard errors."""
    error = math.sqrt(expected * (1 - expected) / total)
    assert abs(hits / total - expected) < 5 * error + 1e-9


def assert_uniform(values, low, high):
    values = np.asarray(values, dtype=float)
    assert len(values) > 50
    assert values.min() >= low
    assert values.max() <= high
    # Kolmogorov-Smirnov distance, at a level of about one in ten million.
    ranked = (np.sort(values) - low) / (high - low)
    distance = np.abs(ranked - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert distance < 2.9 / math.sqrt(len(values))


@pytest.mark.parametrize("stage", [0, 1])
def test_kernels_are_chosen_by_their_probabilities(draws, stage):
    settings = preset("paper").stages[stage].blur
    blurs = [d.stages[stage].blur for d in draws]
    drawn = [blur for blur in blurs if blur is not None]
    assert_share(len(drawn), COUNT, settings.probability)
    kinds = Counter(type(blur) for blur in drawn)
    assert_share(kinds[SincBlur], len(drawn), settings.sinc)
    assert_share(kinds[MotionBlur], len(drawn), settings.motion)
    assert_share(kinds[DefocusBlur], len(drawn), settings.defocus)
    families = Counter(blur.family for blur in drawn if isinstance(blur, FamilyBlur))
    for family in Family:
        assert_share(families[family], families.total(), settings.families[family])


@pytest.mark.parametrize(("stage", "high"), [(0, 3), (1, 1.5)])
def test_family_parameters(draws, stage, high):
    blurs = [d.stages[stage].blur for d in draws]
    blurs = [blur for blur in blurs if isinstance(blur, FamilyBlur)]
    assert_uniform([blur.sigma_x for blur in blurs], 0.2, high)
    sizes = Counter(blur.size for blur in blurs)
    assert sorted(sizes) == list(range(7, 22, 2))
    for count in sizes.values():
        assert_share(count, len(blurs), 1 / 8)
    iso = [blur for blur in blurs if blur.family.endswith("iso") and "aniso" not in blur.family]
    aniso = [blur for blur in blurs if "aniso" in blur.family]
    assert all(blur.sigma_x == blur.sigma_y and blur.rotation == 0 for blur in iso)
    assert_uniform([blur.sigma_y for blur in aniso], 0.2, high)
    assert_uniform([blur.rotation for blur in aniso], -math.pi, math.pi)


def test_shape_exponents(draws):
    blurs = [stage.blur for d in draws for stage in d.stages if isinstance(stage.blur, FamilyBlur)]
    generalized = [blur.beta for blur in blurs if "generalized" in blur.family]
    assert_share(sum(beta < 1 for beta in generalized), len(generalized), 0.5)
    assert_uniform([beta for beta in generalized if beta < 1], 0.5, 1)
    assert_uniform([beta for beta in generalized if beta >= 1], 1, 4)
    plateau = [blur.beta for blur in blurs if "plateau" in blur.family]
    assert_share(sum(beta == 1 for beta in plateau), len(plateau), 0.5)
    assert_uniform([beta for beta in plateau if beta > 1], 1, 2)
    assert all(blur.beta == 1 for blur in blurs if blur.family in (Family.ISO, Family.ANISO))


def test_motion_and_defocus_parameters(draws):
    blurs = [d.stages[0].blur for d in draws]
    motion = [blur for blur in blurs if isinstance(blur, MotionBlur)]
    assert_uniform([blur.length for blur in motion], 3, 20)
    assert_uniform([blur.heading for blur in motion], -math.pi, math.pi)
    assert_uniform([blur.bend for blur in motion], 0, 2)
    assert len({blur.seed for blur in motion}) == len(motion)
    defocus = [blur for blur in blurs if isinstance(blur, DefocusBlur)]
    assert_uniform([blur.radius for blur in defocus], 1, 6)
    assert_uniform([blur.edge for blur in defocus], 0.5, 1.5)


def test_sinc_cut_offs(draws):
    stage = [s.blur for d in draws for s in d.stages if isinstance(s.blur, SincBlur)]
    assert_uniform([blur.cutoff for blur in stage if blur.size < 13], math.pi / 3, math.pi)
    assert_uniform([blur.cutoff for blur in stage if blur.size >= 13], math.pi / 5, math.pi)
    final = [d.final.sinc for d in draws if d.final.sinc is not None]
    assert_share(len(final), COUNT, 0.8)
    assert_uniform([blur.cutoff for blur in final], math.pi / 3, math.pi)
    assert set(Counter(blur.size for blur in final)) == set(range(7, 22, 2))


@pytest.mark.parametrize("stage", [0, 1])
def test_sizes_and_interpolations(draws, stage):
    settings = preset("paper").stages[stage].resize
    scales = np.array([d.stages[stage].height / 512 for d in draws])
    assert all(d.stages[stage].height == d.stages[stage].width for d in draws)
    low, high = settings.scale
    # A scale within half a pixel of 1 looks like "keep", hence the wider margin.
    assert abs((scales == 1).mean() - settings.keep) < 0.04
    assert abs((scales > 1).mean() - settings.up) < 0.04
    assert_uniform(scales[scales > 1], 1, high + 1e-3)
    assert_uniform(scales[scales < 1], low - 1e-3, 1)
    modes = Counter(d.stages[stage].interpolation for d in draws)
    for mode in Interpolation:
        assert_share(modes[mode], COUNT, 1 / 3)


@pytest.mark.parametrize(("stage", "sigma", "scale"), [(0, 30, 3), (1, 25, 2.5)])
def test_noise_and_jpeg(draws, stage, sigma, scale):
    noises = [d.stages[stage].noise for d in draws]
    gaussian = [noise for noise in noises if isinstance(noise, GaussianNoise)]
    poisson = [noise for noise in noises if isinstance(noise, PoissonNoise)]
    assert_share(len(gaussian), COUNT, 0.5)
    assert_uniform([noise.sigma for noise in gaussian], 1, sigma)
    assert_uniform([noise.scale for noise in poisson], 0.05, scale)
    assert_share(sum(noise.gray for noise in noises), COUNT, 0.4)
    qualities = Counter(d.stages[stage].jpeg for d in draws)
    assert sorted(qualities) == list(range(30, 96))


def test_final_order_and_size(draws):
    assert_share(sum(d.final.before_jpeg for d in draws), COUNT, 0.5)
    assert {(d.final.height, d.final.width) for d in draws} == {(512, 512)}
    assert len({d.final.interpolation for d in draws}) == 3


def test_one_stage_presets_divide_by_a_uniform_factor():
    drawn = [draw(seed, 512, 512, preset("codeformer-large")) for seed in range(1500)]
    widths = np.array([d.stages[0].width for d in drawn])
    assert_uniform(np.clip(512 / widths, 4, 30), 4, 30)
    assert all(d.final.sinc is None and not d.final.before_jpeg for d in drawn)
    assert {d.stages[0].blur.size for d in drawn} == {41}
    kinds = Counter(d.stages[0].blur.family for d in drawn)
    assert_share(kinds[Family.ISO], 1500, 0.5)
    assert not any(d.stages[0].noise.gray for d in drawn)


def test_neighbouring_seeds_draw_unlike_values(draws):
    first = [d.stages[0].jpeg + d.stages[0].height for d in draws]
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.08


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed: expected a number from 0 on, got -1"):
        draw(-1, 512, 512, preset("paper"))

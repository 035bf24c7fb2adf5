"""Same seed, same bytes, anywhere; parameters suffice to make a picture again; bad input is refused."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pytest

from dataset_engine.degradation import Parameters, apply, degrade, preset, presets

SEEDS = range(8)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(3)
    field = cv2.GaussianBlur(rng.normal(size=(200, 184, 3)), (0, 0), 5) * 300 + 128
    return np.clip(field, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(picture):
    return [degrade(picture, seed, preset("paper")).image.tobytes() for seed in SEEDS]


def roughness(image):
    return np.abs(np.diff(image.astype(int), axis=1)).mean()


@pytest.fixture
def opencv_threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("name", presets())
def test_result_has_the_inputs_shape_and_is_degraded(picture, name):
    for seed in range(4):
        result = degrade(picture, seed, preset(name)).image
        assert result.shape == picture.shape
        assert result.dtype == np.uint8
        assert not np.array_equal(result, picture)


def test_same_seed_same_bytes_and_other_seed_other_bytes(picture, expected):
    again = [degrade(picture, seed, preset("paper")).image.tobytes() for seed in SEEDS]
    assert again == expected
    assert len(set(expected)) == len(SEEDS)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_do_not_depend_on_opencvs_threads(picture, expected, opencv_threads, threads):
    cv2.setNumThreads(threads)
    assert [degrade(picture, s, preset("paper")).image.tobytes() for s in SEEDS] == expected


@pytest.mark.parametrize("workers", [1, 4])
def test_bytes_do_not_depend_on_worker_threads(picture, expected, workers):
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(partial(degrade, picture, settings=preset("paper")), reversed(SEEDS))
        assert [result.image.tobytes() for result in results] == expected[::-1]


def test_bytes_do_not_depend_on_worker_processes(picture, expected):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        results = pool.map(partial(degrade, picture, settings=preset("paper")), SEEDS)
        assert [result.image.tobytes() for result in results] == expected


def test_global_random_states_are_neither_read_nor_changed(picture, expected):
    cv2.setRNGSeed(11)
    numbers = cv2.randn(np.empty(4, np.float32), 0, 1).copy()
    cv2.setRNGSeed(11)
    state = np.random.get_state()[1].copy()
    assert degrade(picture, 0, preset("paper")).image.tobytes() == expected[0]
    assert np.array_equal(cv2.randn(np.empty(4, np.float32), 0, 1), numbers)
    assert np.array_equal(np.random.get_state()[1], state)


def test_opencvs_thread_count_is_left_alone(picture, opencv_threads):
    cv2.setNumThreads(3)
    degrade(picture, 0, preset("paper"))
    assert cv2.getNumThreads() == 3


@pytest.mark.parametrize("name", presets())
def test_parameters_survive_json_and_make_the_picture_again(picture, name):
    for seed in range(4):
        degraded = degrade(picture, seed, preset(name))
        values = json.loads(json.dumps(degraded.parameters.to_dict()))
        parameters = Parameters.from_dict(values)
        assert parameters == degraded.parameters
        assert np.array_equal(apply(picture, parameters), degraded.image)


def test_broken_parameters_are_refused_by_field(picture):
    values = degrade(picture, 0, preset("paper")).parameters.to_dict()
    values["stages"][1]["jpeg"] = "best"
    with pytest.raises(ValueError, match=r"degradation parameters, stages\.1\.jpeg"):
        Parameters.from_dict(values)
    with pytest.raises(ValueError, match=r"degradation parameters, final"):
        Parameters.from_dict({"seed": 1, "height": 2, "width": 2, "stages": []})


def test_parameters_of_another_size_are_refused(picture):
    parameters = degrade(picture, 0, preset("paper")).parameters
    with pytest.raises(ValueError, match="drawn for 200 x 184 px"):
        apply(picture[:100], parameters)


def test_the_input_is_not_changed(picture):
    before = picture.copy()
    for seed in SEEDS:
        degrade(picture, seed, preset("paper"))
    assert np.array_equal(picture, before)


def test_a_read_only_and_a_strided_input_are_taken(picture):
    mirrored = picture[:, ::-1]
    locked = mirrored.copy()
    locked.setflags(write=False)
    one, two = (degrade(image, 1, preset("paper")).image for image in (mirrored, locked))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (40, 24, 3)])
def test_odd_sizes_come_back_as_they_were(shape):
    image = np.full(shape, 90, np.uint8)
    for name in presets():
        assert degrade(image, 5, preset(name)).image.shape == shape


def test_divisor_makes_the_last_steps_small_and_the_result_large(picture):
    paper = preset("paper")
    settings = dataclasses.replace(paper, final=dataclasses.replace(paper.final, divisor=4))
    degraded = degrade(picture, 2, settings)
    assert degraded.image.shape == picture.shape
    assert (degraded.parameters.final.height, degraded.parameters.final.width) == (50, 46)
    assert degraded.parameters.stages[1].height <= round(50 * 1.2) + 1
    # The result is enlarged at the end, so that neighbours differ less than in the draw at full size.
    small, large = degraded.image, degrade(picture, 2, paper).image
    assert roughness(small) < roughness(large)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match=r"expected a uint8 image \[H, W, 3\]"):
        degrade(image, 0, preset("paper"))

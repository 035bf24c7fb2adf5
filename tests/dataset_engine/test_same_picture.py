"""Copies of one photograph are told from other shots and other people."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_engine.faces.analyser import MediapipeAnalyser
from dataset_engine.faces.prepare import SetAside, prepare_image
from dataset_engine.same_picture import same_picture
from dataset_engine.sample import write_sample
from dataset_engine.store import read_rgb

FACES = os.environ.get("REFSTAR_FACES")
Picture = NDArray[np.uint8]


def encoded(image: Picture, quality: int) -> Picture:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def scaled(image: Picture, side: int) -> Picture:
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)


def lit(image: Picture, contrast: float, brightness: float) -> Picture:
    return (image.astype(np.float32) * contrast + brightness).clip(0, 255).astype(np.uint8)


def moved(image: Picture, shift: tuple[int, int], zoom: float = 1, degrees: float = 0) -> Picture:
    matrix = cv2.getRotationMatrix2D((256, 256), degrees, zoom)
    matrix[:, 2] += shift
    warped = cv2.warpAffine(image, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.uint8)


def gray(image: Picture) -> Picture:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def everything(image: Picture) -> Picture:
    return encoded(lit(moved(scaled(image, 256), (3, -2), 1.015, 0.7), 0.85, 25), 40)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "unchanged": lambda image: image.copy(),
    "quality 30": lambda image: encoded(image, 30),
    "quarter size": lambda image: scaled(image, 128),
    "brighter": lambda image: lit(image, 1, 40),
    "darker": lambda image: lit(image, 1, -40),
    "flatter": lambda image: lit(image, 0.6, 50),
    "gray": gray,
    "moved": lambda image: moved(image, (-8, 6)),
    "zoomed": lambda image: moved(image, (2, 2), 1.04),
    "turned": lambda image: moved(image, (0, 0), 1, 2),
    "everything": everything,
}


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Three shots of each of three rendered people."""
    folder = tmp_path_factory.mktemp("faces")
    write_sample(folder, identities=3, shots=3, seed=0)
    return [read_rgb(path) for path in sorted(folder.glob("*/0?.png"))]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_the_same_picture(shots: list[Picture], copy: Callable[[Picture], Picture]):
    for image in shots[::4]:
        assert same_picture(image, copy(image))
        assert same_picture(copy(image), image)


def test_other_shots_and_other_people_are_other_pictures(shots: list[Picture]):
    assert len(shots) == 9
    for first, second in combinations(shots, 2):
        assert not same_picture(first, second)


def test_another_mouth_on_the_same_picture_is_another_shot(shots: list[Picture]):
    changed = shots[0].copy()
    changed[330:420, 170:340] = shots[4][330:420, 170:340]
    changed[200:280, 140:370] = shots[4][200:280, 140:370]
    assert not same_picture(shots[0], changed)


def test_a_mirrored_copy_is_another_picture(shots: list[Picture]):
    assert not same_picture(shots[0], np.ascontiguousarray(shots[0][:, ::-1]))


def test_a_picture_without_detail_is_like_itself_only(shots: list[Picture]):
    black = np.zeros((512, 512, 3), np.uint8)
    assert same_picture(black, black.copy())
    assert not same_picture(black, black + 1)
    assert not same_picture(black, shots[0])
    assert not same_picture(shots[0], black)


@pytest.mark.skipif(not FACES, reason="REFSTAR_FACES names no folder of photographs")
@pytest.mark.slow
def test_photographs_are_told_apart_and_their_copies_found() -> None:
    analyser = MediapipeAnalyser()
    images: list[Picture] = []
    for path in sorted(Path(str(FACES)).glob("*/*.jpg"))[:12]:
        try:
            images.append(prepare_image(path, analyser).image)
        except SetAside:
            continue
    assert len(images) > 5
    assert all(same_picture(image, everything(image)) for image in images)
    assert not any(same_picture(*pair) for pair in combinations(images, 2))

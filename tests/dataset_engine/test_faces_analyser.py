"""The dominant face is chosen or refused; the bundled models load quietly and find real faces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.faces.alignment import SIZE, align, transform_points
from dataset_engine.faces.analyser import (
    DOMINANCE,
    Face,
    MediapipeAnalyser,
    NoFace,
    SeveralFaces,
    dominant,
)
from dataset_engine.faces.decode import read_image

FACES = os.environ.get("REFSTAR_FACES")
needs_faces = pytest.mark.skipif(not FACES, reason="REFSTAR_FACES names no real photographs")


def photographs() -> list[Path]:
    return sorted(Path(FACES).glob("*/*.jpg")) if FACES else []


@pytest.fixture(scope="module")
def analyser() -> MediapipeAnalyser:
    return MediapipeAnalyser()


def face(width: float) -> Face:
    nothing = np.zeros((5, 2), np.float32)
    box = np.array([0, 0, width, width], np.float32)
    return Face(nothing, np.zeros((478, 2), np.float32), box, 0.9)


def test_the_larger_face_is_dominant_in_any_order() -> None:
    large, small = face(100), face(80)
    assert dominant([small, large]) is large
    assert dominant([large]) is large


def test_no_face_and_equal_faces_are_told_apart() -> None:
    with pytest.raises(NoFace):
        dominant([])
    with pytest.raises(SeveralFaces, match="3 faces"):
        dominant([face(100), face(99), face(90), face(20)])


def test_dominance_is_a_ratio_of_areas() -> None:
    just_under = face(100), face(100 / np.sqrt(DOMINANCE) + 0.1)
    just_over = face(100), face(100 / np.sqrt(DOMINANCE) - 0.1)
    with pytest.raises(SeveralFaces):
        dominant(list(just_under))
    assert dominant(list(just_over)).area == pytest.approx(10_000)


@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 900, 3), (64, 64, 3), (700, 1100, 3)])
def test_pictures_without_a_face_have_none(
    analyser: MediapipeAnalyser, shape: tuple[int, int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert analyser.analyse(noise) == []
    assert analyser.analyse(np.zeros(shape, np.uint8)) == []


def test_person_is_a_share_for_each_pixel(analyser: MediapipeAnalyser) -> None:
    share = analyser.person(np.zeros((90, 120, 3), np.uint8))
    assert share.shape == (90, 120)
    assert share.dtype == np.float32
    assert 0 <= share.min() <= share.max() <= 1


def test_models_load_without_a_word_or_a_warning() -> None:
    code = (
        "import numpy as np; from dataset_engine.faces.analyser import MediapipeAnalyser as A;"
        "a = A(); assert a.analyse(np.zeros((64, 64, 3), np.uint8)) == []; a.close()"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_absent_mediapipe_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions", None)
    with pytest.raises(RuntimeError, match="pip install --no-deps mediapipe"):
        MediapipeAnalyser()


@needs_faces
@pytest.mark.slow
def test_every_photograph_has_one_dominant_face(analyser: MediapipeAnalyser) -> None:
    for path in photographs():
        image = read_image(path)
        found = dominant(analyser.analyse(image))
        left, right, nose, mouth_left, mouth_right = found.five_points
        assert left[0] < nose[0] < right[0], path
        assert left[1] < nose[1] < mouth_left[1], path
        assert mouth_left[0] < mouth_right[0], path
        assert found.landmarks.shape == (478, 2)
        low, high = found.landmarks.min(axis=0), found.landmarks.max(axis=0)
        np.testing.assert_array_equal(found.box, [*low, *high])


@needs_faces
def test_points_follow_the_picture(analyser: MediapipeAnalyser) -> None:
    """Turned, shrunk, and pasted small into a large picture, a face keeps its points."""
    image = read_image(photographs()[-1])
    aligned = align(image, dominant(analyser.analyse(image)).five_points).image
    first = dominant(analyser.analyse(aligned))
    turn = cv2.getRotationMatrix2D((256, 256), 20, 0.6)
    turned = cv2.warpAffine(aligned, turn, (SIZE, SIZE))
    large = np.full((1800, 2400, 3), 110, np.uint8)
    large[1500:1630, 400:530] = cv2.resize(aligned, (130, 130), interpolation=cv2.INTER_AREA)
    small = 130 / SIZE
    paste = np.array([[small, 0, 400], [0, small, 1500]])
    for picture, matrix, scale in ((turned, turn, 0.6), (large, paste, small)):
        found = dominant(analyser.analyse(picture)).landmarks
        off = np.linalg.norm(found - transform_points(first.landmarks, matrix), axis=1) / scale
        assert off.mean() < 6


@needs_faces
def test_faces_side_by_side_are_all_found(analyser: MediapipeAnalyser) -> None:
    image = read_image(photographs()[-1])
    aligned = align(image, dominant(analyser.analyse(image)).five_points).image
    faces = analyser.analyse(np.hstack([aligned, aligned[:, ::-1], aligned]))
    assert len(faces) == 3
    with pytest.raises(SeveralFaces):
        dominant(faces)

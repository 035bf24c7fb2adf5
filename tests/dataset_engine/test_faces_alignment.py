"""Alignment brings five points onto the template, keeps aligned pixels, and does not alias."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dataset_engine.faces.alignment import (
    SIZE,
    TEMPLATE,
    DegeneratePoints,
    align,
    displacement,
    similarity,
    transform_points,
    warp_mask,
)


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """A similarity [2, 3] from the aligned frame to a source's."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


@pytest.mark.parametrize("degrees", [0, 17, -60, 180])
@pytest.mark.parametrize("scale", [0.2, 1.0, 3.7])
def test_similarity_is_recovered_exactly(degrees: float, scale: float) -> None:
    there = turned(degrees, scale, (30, -12))
    found = similarity(transform_points(TEMPLATE, there), TEMPLATE)
    np.testing.assert_allclose(
        transform_points(transform_points(TEMPLATE, there), found), TEMPLATE, atol=1e-2
    )
    assert np.hypot(found[0, 0], found[1, 0]) == pytest.approx(1 / scale, rel=1e-4)


def test_similarity_is_the_least_squares_one_and_never_mirrors() -> None:
    rng = np.random.default_rng(1)
    source = TEMPLATE + rng.normal(0, 8, TEMPLATE.shape)
    best = similarity(source, TEMPLATE)

    def error(matrix: np.ndarray) -> float:
        return float(((transform_points(source, matrix) - TEMPLATE) ** 2).sum())

    for _ in range(50):
        a, b = rng.normal(0, 0.01, 2)
        change = np.array([[a, -b, rng.normal()], [b, a, rng.normal()]])
        assert error(best) <= error(best + change)
    mirrored = TEMPLATE * [-1, 1] + [512, 0]
    assert np.linalg.det(similarity(mirrored, TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_points_without_a_similarity_are_refused(points: np.ndarray) -> None:
    with pytest.raises(DegeneratePoints):
        similarity(points, TEMPLATE)


def scene(size: int = SIZE) -> np.ndarray:
    """A smooth picture with one dot at each template point, in the aligned frame."""
    y, x = np.mgrid[:size, :size] / size
    image = np.stack([120 + 60 * np.sin(6 * x), 120 + 60 * np.cos(5 * y), 100 + 0 * x], axis=-1)
    return image.astype(np.uint8)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (20, 0.5), (-35, 2.5), (90, 4.0)])
def test_a_moved_picture_comes_back(degrees: float, scale: float) -> None:
    image = scene()
    there = turned(degrees, scale, (900, 900) if degrees < 90 else (2200, 500))
    source = cv2.warpAffine(image, there, (3000, 3000), flags=cv2.INTER_CUBIC)
    aligned = align(source, transform_points(TEMPLATE, there))
    assert aligned.scale == pytest.approx(1 / scale, rel=1e-3)
    middle = (slice(20, 492), slice(20, 492))
    assert np.abs(aligned.image[middle].astype(int) - image[middle]).mean() < 1.5
    assert aligned.inside[middle].all()


def test_an_aligned_image_keeps_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    aligned = align(image, TEMPLATE + 0.2)
    assert aligned.image is image
    np.testing.assert_array_equal(aligned.matrix, np.eye(2, 3))
    assert aligned.scale == 1.0
    assert aligned.inside.all()


def test_the_tolerance_is_a_displacement_anywhere_in_the_image() -> None:
    image = scene()
    points = TEMPLATE + np.array([3, 0])
    assert displacement(similarity(points, TEMPLATE)) == pytest.approx(3, abs=1e-3)
    assert align(image, points).image is not image
    assert align(image, points, tolerance=3.5).image is image
    assert align(image[:, :511], TEMPLATE, tolerance=50).image.shape == (SIZE, SIZE, 3)


def test_strong_reduction_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (4096, 2048))[..., None].repeat(3, axis=2)
    aligned = align(stripes, TEMPLATE * 8)
    assert np.abs(aligned.image.astype(int) - 127).max() <= 3


def test_outside_of_the_source_is_filled_softly_and_marked() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    aligned = align(image, TEMPLATE + np.array([200, 0]))
    assert not aligned.inside[:, 320:].any()
    assert aligned.inside[:, :300].all()
    assert aligned.image[:, 400:].std() < 0.5 * aligned.image[:, :300].std()
    assert aligned.image[:, 400:].mean() > 60


def test_a_mask_moves_with_its_image() -> None:
    source = np.zeros((1024, 1024), dtype=np.bool_)
    source[400:600, 300:700] = True
    moved = warp_mask(source, similarity(TEMPLATE * 2, TEMPLATE))
    expected = np.zeros((SIZE, SIZE), dtype=np.bool_)
    expected[200:300, 150:350] = True
    assert moved.dtype == np.bool_
    assert (moved ^ expected).sum() < 700
    np.testing.assert_array_equal(warp_mask(expected, np.eye(2, 3)), expected)

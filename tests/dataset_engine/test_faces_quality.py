"""Sharpness sees focus and not contrast or enlargement; hashes see the picture and not its format."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dataset_engine.faces.quality import exposure, hamming, perceptual_hash, sharpness

EVERYWHERE = np.ones((512, 512), dtype=np.bool_)


def texture(seed: int = 0) -> np.ndarray:
    """Detail at every size, as a photograph has it."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 12, (side, side)).astype(np.float32), (512, 512))
        for side in (16, 64, 256, 512)
    ]
    grey = np.clip(128 + sum(layers), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_blur_lowers_sharpness_step_by_step() -> None:
    sharp = texture()
    figures = [sharpness(sharp, EVERYWHERE)]
    for sigma in (1, 2, 4):
        figures.append(sharpness(cv2.GaussianBlur(sharp, (0, 0), sigma), EVERYWHERE))
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 5 * figures[2]


def test_contrast_and_brightness_do_not_change_it() -> None:
    sharp = texture()
    faint = np.clip(sharp.astype(np.float32) * 0.4 + 20, 0, 255).astype(np.uint8)
    assert sharpness(faint, EVERYWHERE) == pytest.approx(sharpness(sharp, EVERYWHERE), rel=0.15)


def test_enlarging_does_not_count_as_blur() -> None:
    small = texture()[:128, :128]
    large = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
    assert sharpness(large, EVERYWHERE, scale=4.0) > 2 * sharpness(large, EVERYWHERE)


def test_only_the_region_counts() -> None:
    image = cv2.GaussianBlur(texture(), (0, 0), 4)
    image[:, 256:] = texture()[:, 256:]
    left = EVERYWHERE.copy()
    left[:, 250:] = False
    assert sharpness(image, left) < 0.5 * sharpness(image, ~left)
    assert sharpness(image, ~EVERYWHERE) == 0.0


def test_exposure_is_that_of_the_region() -> None:
    image = np.zeros((512, 512, 3), dtype=np.uint8)
    image[:, :256] = 200
    left = EVERYWHERE.copy()
    left[:, 256:] = False
    assert exposure(image, left).dark == exposure(image, left).bright == 200
    assert exposure(image, ~left).bright == 0
    assert exposure(image, ~EVERYWHERE).bright == 0


def test_hash_survives_small_changes_and_tells_pictures_apart() -> None:
    first = cv2.GaussianBlur(texture(1), (0, 0), 9)
    same = np.clip(first.astype(int) + 6, 0, 255).astype(np.uint8)
    other = cv2.GaussianBlur(texture(2), (0, 0), 9)
    digits = perceptual_hash(first)
    assert len(digits) == 16
    assert int(digits, 16) >= 0
    assert hamming(digits, perceptual_hash(same)) <= 4
    assert hamming(digits, perceptual_hash(other)) > 12


def test_hamming_counts_bits_and_refuses_what_is_no_hash() -> None:
    assert hamming("0" * 16, "0" * 15 + "7") == 3
    for bad in ("", "0" * 15, "x" * 16):
        with pytest.raises(ValueError, match=r"16|invalid literal"):
            hamming(bad, "0" * 16)

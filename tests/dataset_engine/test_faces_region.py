"""The region holds skin and parts, whatever the skin's shade, and neither hair nor background."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.faces import outline
from dataset_engine.faces.analyser import MediapipeAnalyser
from dataset_engine.faces.prepare import prepare_image
from dataset_engine.faces.region import face_region

FACES = os.environ.get("REFSTAR_FACES")

CENTRE, HALF_WIDTH, HALF_HEIGHT = np.array([256.0, 290.0]), 125.0, 165.0


def mesh() -> np.ndarray:
    """A mesh of an upright egg of a face: the points that the outline reads, the rest within."""
    points = np.tile(CENTRE, (478, 1))
    oval = outline._OVAL
    for k, index in enumerate(oval):
        angle = 2 * np.pi * k / len(oval)
        points[index] += [HALF_WIDTH * np.sin(angle), -HALF_HEIGHT * np.cos(angle)]
    for parts, rise, size in ((outline._EYES, 50, (24, 9)), (outline._BROWS, 80, (32, 7))):
        for part, side in zip(parts, (-1, 1), strict=True):
            for k, index in enumerate(part):
                angle = 2 * np.pi * k / len(part)
                cx, cy = CENTRE[0] + side * 60, CENTRE[1] - rise
                points[index] = cx + size[0] * np.cos(angle), cy + size[1] * np.sin(angle)
    cheeks = outline._CHEEKS_AND_NOSE
    for k, index in enumerate(cheeks):
        angle = 2 * np.pi * k / len(cheeks)
        points[index] += [85 * np.sin(angle), 10 - 38 * np.cos(angle)]
    points[outline._NOSE_BASE] = CENTRE[0], CENTRE[1] + 40
    return points.astype(np.float32)


def ellipse(centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    mask = np.zeros((512, 512), np.uint8)
    cv2.ellipse(
        mask, (int(centre[0]), int(centre[1])), (int(axes[0]), int(axes[1])), 0, 0, 360, 1, -1
    )
    return mask.astype(bool)


SKULL = ellipse((256, 265), (140, 205))
FACE = ellipse((256, 290), (127, 167))
SKINS = {
    "light": (226, 180, 156),
    "brown": (158, 104, 74),
    "dark": (84, 54, 40),
    "grey": (170,) * 3,
}
HAIRS = {"black": (26, 22, 22), "white": (232, 230, 226), "red": (140, 54, 20)}


def portrait(
    skin: tuple[int, ...], hair: tuple[int, ...] | None, hairline: int = 150
) -> tuple[np.ndarray, np.ndarray]:
    """A drawn head uint8 [512, 512, 3] and where its hair is; hair None for a bald one."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:512, :512]
    image = np.full((512, 512, 3), (70, 110, 150), np.float32)
    image[SKULL | FACE | (y > 430) & (abs(x - 256) < 70)] = skin
    covered = np.zeros((512, 512), bool)
    if hair is not None:
        covered = SKULL & ((y < hairline) | ~FACE & (y < 330))
        image[covered] = hair
        image += covered[..., None] * rng.normal(0, 9, (512, 512, 1))
    for side in (-60, 60):
        image[ellipse((256 + side, 240), (24, 9))] = (240, 240, 240)
        image[ellipse((256 + side, 240), (8, 8))] = (40, 30, 20)
        image[ellipse((256 + side, 210), (32, 7))] = (50, 36, 30)
    image[ellipse((256, 375), (45, 14))] = (150, 60, 60)
    shade = 1.06 - 0.3 * np.abs(x - 256) / 256 - 0.06 * (x > 256)
    image = cv2.GaussianBlur(image * shade[..., None], (0, 0), 1.2) + rng.normal(
        0, 3, (512, 512, 1)
    )
    return np.clip(image, 0, 255).astype(np.uint8), covered


PERSON = cv2.GaussianBlur((SKULL | FACE).astype(np.float32), (0, 0), 3)


@pytest.mark.parametrize("skin", SKINS)
@pytest.mark.parametrize("hair", HAIRS)
def test_hair_is_out_and_skin_is_in(skin: str, hair: str) -> None:
    image, covered = portrait(SKINS[skin], HAIRS[hair])
    region = face_region(image, mesh(), PERSON)
    expected = FACE & ~covered
    overlap = (region & expected).sum() / (region | expected).sum()
    assert overlap > 0.93
    within = cv2.erode(covered.astype(np.uint8), np.ones((13, 13))).astype(bool)
    # White hair on a picture without colour differs from skin in brightness alone.
    assert (region & within).sum() < (3000 if (skin, hair) == ("grey", "white") else 150)
    assert not (region & ~SKULL & ~FACE)[:400].any()


@pytest.mark.parametrize("skin", SKINS)
def test_a_bald_forehead_stays_in(skin: str) -> None:
    image, _ = portrait(SKINS[skin], None)
    region = face_region(image, mesh(), PERSON)
    assert region[110:420, 256].all()
    assert not region[:40].any()


@pytest.mark.parametrize("hairline", [120, 150, 185])
def test_the_boundary_follows_the_hairline(hairline: int) -> None:
    image, _ = portrait(SKINS["light"], HAIRS["black"], hairline)
    top = np.flatnonzero(face_region(image, mesh(), PERSON)[:, 256])[0]
    assert abs(top - max(hairline, 60)) < 12


@pytest.mark.parametrize("colour", [(35, 28, 24), (225, 225, 225)])
def test_a_beard_stays_in(colour: tuple[int, int, int]) -> None:
    image, _ = portrait(SKINS["light"], HAIRS["black"])
    beard = FACE & (np.mgrid[:512, :512][0] > 335)
    image[beard] = colour
    region = face_region(image, mesh(), PERSON)
    assert (region & beard).sum() > 0.9 * beard.sum()


def test_dark_glasses_stay_in_and_do_not_cost_the_forehead() -> None:
    image, _ = portrait(SKINS["light"], HAIRS["black"])
    lenses = ellipse((196, 242), (50, 36)) | ellipse((316, 242), (50, 36))
    image[lenses] = (12, 12, 14)
    region = face_region(image, mesh(), PERSON)
    assert (region & lenses).sum() > 0.95 * lenses.sum()
    assert region[165:200, 230:280].all()


def test_the_region_is_one_smooth_piece_and_always_the_same() -> None:
    image, _ = portrait(SKINS["brown"], HAIRS["red"])
    image[::37, ::41] = 255
    region = face_region(image, mesh(), PERSON)
    assert cv2.connectedComponents(region.astype(np.uint8))[0] == 2
    assert cv2.connectedComponents((~region).astype(np.uint8))[0] == 2
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    length = cv2.arcLength(contours[0], closed=True)
    assert length**2 / (4 * np.pi * region.sum()) < 2.0
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(region, face_region(image, mesh(), PERSON))


def test_a_flat_picture_still_gives_a_region() -> None:
    for level in (0, 128, 255):
        region = face_region(np.full((512, 512, 3), level, np.uint8), mesh())
        assert 0.1 < region.mean() < 0.6


@pytest.mark.skipif(not FACES, reason="REFSTAR_FACES names no real photographs")
@pytest.mark.slow
def test_regions_of_photographs_are_plausible() -> None:
    analyser = MediapipeAnalyser()
    for path in sorted(Path(FACES or "").glob("*/*.jpg")):
        prepared = prepare_image(path, analyser)
        assert 0.2 < prepared.region.mean() < 0.45, path
        left, right, nose, *mouth = prepared.five_points.round().astype(int)
        for x, y in (left, right, nose, *mouth):
            assert prepared.region[y, x], path
        assert not prepared.region[:20].any(), path
        assert not prepared.region[505:].any(), path

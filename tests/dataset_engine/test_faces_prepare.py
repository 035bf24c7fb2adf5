"""One file becomes a prepared image, or is set aside with a reason; nothing else is raised."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset_engine.faces.alignment import TEMPLATE, transform_points
from dataset_engine.faces.analyser import Face, MediapipeAnalyser, NoFace
from dataset_engine.faces.decode import DecodeLimits
from dataset_engine.faces.parser import ParserError
from dataset_engine.faces.prepare import PrepareSettings, Reason, SetAside, prepare_image
from dataset_engine.faces.region_finder import MeshRegionFinder

FACES = os.environ.get("REFSTAR_FACES")


def face(five: np.ndarray, size: float = 1.0) -> Face:
    five = five.astype(np.float32)
    low, high = five.min(axis=0), five.max(axis=0)
    box = np.concatenate([low - 40 * size, high + 40 * size]).astype(np.float32)
    return Face(five, np.resize(five, (478, 2)), box, 0.9)


class Found:
    """An analyser that finds what it is told, and sees a person everywhere."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def analyse(self, image: np.ndarray) -> list[Face]:
        return self.faces

    def person(self, image: np.ndarray) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


class Disc:
    """A region finder that always answers with a disc, and remembers what it was given."""

    def region(
        self, image: np.ndarray, five_points: np.ndarray, landmarks: np.ndarray | None
    ) -> np.ndarray:
        self.given = image, five_points, landmarks
        y, x = np.mgrid[:512, :512]
        return (x - 256) ** 2 + (y - 290) ** 2 < 150**2


def texture(width: int = 512, height: int = 512) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(60, 200, (height, width, 3), dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def set_aside(*args: object, **options: object) -> SetAside:
    with pytest.raises(SetAside) as caught:
        prepare_image(*args, **options)  # type: ignore[arg-type]
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.detail}"
    return caught.value


def test_a_photograph_is_aligned_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", texture(900, 1100))
    five, disc = TEMPLATE * 1.5 + 60, Disc()
    prepared = prepare_image(path, Found(face(five)), regions=disc)
    np.testing.assert_allclose(prepared.five_points, TEMPLATE, atol=1e-3)
    assert prepared.image.shape == (512, 512, 3)
    assert prepared.image is disc.given[0]
    assert prepared.region.shape == (512, 512)
    assert prepared.landmarks is not None
    np.testing.assert_allclose(prepared.landmarks, np.resize(TEMPLATE, (478, 2)), atol=1e-3)
    assert prepared.source_size == (900, 1100)
    assert prepared.eye_distance == pytest.approx(1.5 * 125.9, abs=0.1)
    assert prepared.warped
    assert len(prepared.phash) == 16
    assert prepared.sharpness > 0.04


def test_the_region_never_reaches_outside_the_source(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", texture(300, 512))
    prepared = prepare_image(path, Found(face(TEMPLATE)), regions=Disc())
    assert not prepared.region[:, 302:].any()
    assert prepared.region[290, 150:290].all()


def test_a_picture_aligned_by_others_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = texture()
    path = saved(tmp_path / "a.png", pixels)
    five = TEMPLATE + np.array([6.0, -5.0])
    prepared = prepare_image(path, Found(face(five)), regions=Disc())
    np.testing.assert_array_equal(prepared.image, pixels)
    np.testing.assert_allclose(prepared.five_points, five, atol=1e-3)
    assert not prepared.warped
    strict = PrepareSettings(aligned_tolerance=1.0)
    assert prepare_image(path, Found(face(five)), strict, regions=Disc()).warped


def test_in_an_aligned_picture_the_aligned_face_counts(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", texture())
    neighbour = face(TEMPLATE + np.array([230, 10]), size=3)
    prepared = prepare_image(path, Found(neighbour, face(TEMPLATE)), regions=Disc())
    np.testing.assert_allclose(prepared.five_points, TEMPLATE, atol=1e-3)


def test_every_trouble_has_its_reason(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", texture(900, 700))
    one = face(TEMPLATE + 40)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    flat = saved(tmp_path / "flat.png", np.full((600, 600, 3), 120, np.uint8))
    black = saved(tmp_path / "black.png", texture(600, 600) // 20)
    white = saved(tmp_path / "white.png", 255 - texture(600, 600) // 20)
    limits = PrepareSettings(limits=DecodeLimits(max_pixels=1000))
    cases = [
        (set_aside(tmp_path / "broken.jpg", Found(one)), Reason.UNREADABLE),
        (set_aside(tmp_path / "absent.jpg", Found(one)), Reason.UNREADABLE),
        (set_aside(path, Found(one), limits), Reason.TOO_LARGE),
        (set_aside(path, Found()), Reason.NO_FACE),
        (set_aside(path, Found(one, face(TEMPLATE + 300))), Reason.SEVERAL_FACES),
        (set_aside(path, Found(face(TEMPLATE * 0.2))), Reason.TOO_FEW_PIXELS),
        (set_aside(path, Found(face(np.full((5, 2), np.nan)))), Reason.NO_FACE),
        (set_aside(flat, Found(one), regions=Disc()), Reason.BLURRED),
        (set_aside(black, Found(one), regions=Disc()), Reason.BADLY_EXPOSED),
        (set_aside(white, Found(one), regions=Disc()), Reason.BADLY_EXPOSED),
    ]
    for found, reason in cases:
        assert found.reason is reason
        assert found.detail


def test_an_empty_region_is_a_reason(tmp_path: Path) -> None:
    class Nothing(Disc):
        def region(self, *args: object) -> np.ndarray:
            return np.zeros((512, 512), np.bool_)

    path = saved(tmp_path / "a.png", texture())
    assert set_aside(path, Found(face(TEMPLATE)), regions=Nothing()).reason is Reason.NO_REGION


def with_sidecars(folder: Path, pixels: np.ndarray, five: np.ndarray) -> tuple[Path, np.ndarray]:
    path = saved(folder / "00.png", pixels)
    region = np.zeros(pixels.shape[:2], np.bool_)
    low, high = five.min(axis=0).astype(int), five.max(axis=0).astype(int)
    region[low[1] : high[1], low[0] : high[0]] = True
    Image.fromarray(region).save(folder / "00.region.png")
    (folder / "00.face.json").write_text(json.dumps({"five_points": five.tolist()}))
    return path, region


def test_sidecars_on_the_template_are_kept_exactly(tmp_path: Path) -> None:
    pixels = cv2.GaussianBlur(texture(), (0, 0), 9)
    path, region = with_sidecars(tmp_path, pixels, TEMPLATE)
    prepared = prepare_image(path, Found())
    np.testing.assert_array_equal(prepared.image, pixels)
    np.testing.assert_array_equal(prepared.region, region)
    np.testing.assert_allclose(prepared.five_points, TEMPLATE, atol=1e-3)
    assert prepared.landmarks is None
    assert not prepared.warped


def test_sidecars_elsewhere_move_with_the_image(tmp_path: Path) -> None:
    path, region = with_sidecars(tmp_path, texture(1024, 1024), TEMPLATE * 2)
    prepared = prepare_image(path, Found())
    np.testing.assert_allclose(prepared.five_points, TEMPLATE, atol=1e-3)
    assert prepared.region.sum() == pytest.approx(region.sum() / 4, rel=0.02)


def test_sidecars_are_used_only_when_asked_for(tmp_path: Path) -> None:
    path, _ = with_sidecars(tmp_path, texture(), TEMPLATE)
    assert set_aside(path, Found(), sidecars=False).reason is Reason.NO_FACE


def test_a_bad_sidecar_is_a_reason(tmp_path: Path) -> None:
    path, _ = with_sidecars(tmp_path, texture(), TEMPLATE)
    (tmp_path / "00.face.json").write_text("{")
    found = set_aside(path, Found())
    assert found.reason is Reason.BAD_SIDECAR
    assert "00.face.json" in found.detail


def test_points_without_a_region_take_the_mesh_at_those_points() -> None:
    far, near = face(TEMPLATE + 300), face(TEMPLATE + 4)
    finder = MeshRegionFinder(Found(far))
    with pytest.raises(NoFace):
        finder.region(texture(), TEMPLATE.astype(np.float32), None)
    both = MeshRegionFinder(Found(far, near))
    region = both.region(texture(), TEMPLATE.astype(np.float32), None)
    assert region.shape == (512, 512)


def test_a_configured_parser_that_is_absent_is_an_error_and_not_a_set_aside(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path / "a.png", texture())
    settings = PrepareSettings(parser_weights=tmp_path / "absent.onnx")
    with pytest.raises(ParserError, match=r"absent\.onnx: no such file"):
        prepare_image(path, Found(face(TEMPLATE)), settings)


@pytest.mark.skipif(not FACES, reason="REFSTAR_FACES names no real photographs")
@pytest.mark.slow
def test_real_photographs_are_prepared_and_prepared_again_unchanged(tmp_path: Path) -> None:
    analyser = MediapipeAnalyser()
    for path in sorted(Path(FACES or "").glob("*/*.jpg")):
        first = prepare_image(path, analyser)
        again = prepare_image(saved(tmp_path / "again.png", first.image), analyser)
        assert not again.warped, path
        np.testing.assert_array_equal(again.image, first.image)
        both, either = (again.region & first.region).sum(), (again.region | first.region).sum()
        assert both / either > 0.95, path
        moved = transform_points(first.five_points, np.eye(2, 3)) - again.five_points
        assert np.abs(moved).max() < 8, path

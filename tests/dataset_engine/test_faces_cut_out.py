"""Cutting a face out for restoration and pasting it back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from dataset_engine.faces.alignment import TEMPLATE
from dataset_engine.faces.analyser import Face
from dataset_engine.faces.cut_out import CutOutSettings, cut_out
from dataset_engine.faces.prepare import Reason, SetAside


class Sees:
    """An analyser that finds the faces it is told of."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def analyse(self, image: np.ndarray) -> list[Face]:
        return self.faces

    def person(self, image: np.ndarray) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


def face(scale: float, x: float, y: float) -> Face:
    points = (TEMPLATE * scale + [x, y]).astype(np.float32)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
    return Face(points, np.zeros((478, 2), np.float32), box, 0.9)


def smooth(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    rough = rng.integers(0, 255, (height // 20, width // 20, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    PillowImage.fromarray(image).save(path)
    return path


def test_a_face_pasted_back_unchanged_leaves_its_picture_as_it_was(tmp_path: Path) -> None:
    picture = smooth(600, 800)
    path = save(tmp_path / "p.png", picture)
    cut = cut_out(path, Sees(face(0.7, 200.3, 120.6)))
    assert cut.aligned.shape == (512, 512, 3)
    back = cut.paste(cut.aligned)
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).mean() < 0.5
    assert np.array_equal(back[:100], picture[:100])


def test_the_edge_of_a_pasted_face_is_soft_and_nothing_beyond_it_changes(tmp_path: Path) -> None:
    picture = np.full((600, 800, 3), 100, np.uint8)
    cut = cut_out(save(tmp_path / "p.png", picture), Sees(face(0.5, 300, 200)))
    back = cut.paste(np.full((512, 512, 3), 200, np.uint8)).astype(int)
    assert back[328, 428, 0] == 200  # the middle of the face
    assert np.abs(np.diff(back[328, :, 0])).max() <= 12
    assert (back[:195] == 100).all()
    assert (back[:, :295] == 100).all()


def test_a_small_face_keeps_its_detail_in_an_enlarged_picture(tmp_path: Path) -> None:
    picture = smooth(200, 240)
    cut = cut_out(save(tmp_path / "p.png", picture), Sees(face(0.25, 50, 30)))
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    assert cut.paste(stripes, 4).shape == (800, 960, 3)
    inside = np.s_[300:500, 400:600]
    assert cut.paste(stripes, 4)[inside].std() > 100
    assert cut.paste(stripes, 1)[80:120, 100:150].std() < 60


def test_a_pasted_face_may_reach_over_the_edge_of_its_picture(tmp_path: Path) -> None:
    cut = cut_out(save(tmp_path / "p.png", smooth(300, 300)), Sees(face(0.8, -120, -90)))
    assert cut.paste(np.zeros((512, 512, 3), np.uint8)).shape == (300, 300, 3)


def test_an_aligned_picture_keeps_its_pixels_and_is_replaced_whole(tmp_path: Path) -> None:
    picture = smooth(512, 512)
    cut = cut_out(save(tmp_path / "p.png", picture), Sees(face(1, 2, 1)))
    assert np.array_equal(cut.aligned, picture)
    restored = smooth(512, 512)[::-1].copy()
    assert np.array_equal(cut.paste(restored), restored)


def test_a_square_picture_without_a_face_is_taken_as_aligned_and_noted(tmp_path: Path) -> None:
    cut = cut_out(save(tmp_path / "p.png", smooth(100, 100)), Sees())
    assert cut.matrix is None
    assert cut.notes == ("no face found: taken as aligned",)
    assert cut.paste(np.zeros((512, 512, 3), np.uint8)).shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("size", "faces", "reason"),
    [
        ((100, 200), [], Reason.NO_FACE),
        ((400, 600), [face(0.5, 0, 0), face(0.5, 300, 0)], Reason.SEVERAL_FACES),
        ((8, 8), [], Reason.TOO_FEW_PIXELS),
    ],
)
def test_what_cannot_be_restored_is_set_aside_with_its_reason(
    tmp_path: Path, size: tuple[int, int], faces: list[Face], reason: Reason
) -> None:
    path = save(tmp_path / "p.png", np.full((*size, 3), 90, np.uint8))
    with pytest.raises(SetAside) as caught:
        cut_out(path, Sees(*faces))
    assert caught.value.reason is reason


def test_corrupt_and_huge_files_are_set_aside(tmp_path: Path) -> None:
    from dataset_engine.faces.decode import DecodeLimits

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    with pytest.raises(SetAside, match="unreadable"):
        cut_out(broken, Sees())
    large = save(tmp_path / "large.png", smooth(100, 100))
    with pytest.raises(SetAside, match="too_large"):
        cut_out(large, Sees(), CutOutSettings(limits=DecodeLimits(max_pixels=5000)))


def test_grayscale_alpha_and_16_bits_are_noted(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", smooth(64, 64)[..., 0])
    clear = np.dstack([smooth(64, 64), np.full((64, 64), 128, np.uint8)])
    alpha = save(tmp_path / "alpha.png", clear)
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), smooth(64, 64).astype(np.uint16) * 257)
    deep_grey = tmp_path / "deep-grey.png"
    cv2.imwrite(str(deep_grey), smooth(64, 64)[..., 0].astype(np.uint16) * 257)
    settings = CutOutSettings(aligned=True)
    notes = {
        path.stem: cut_out(path, None, settings).notes for path in (grey, alpha, deep, deep_grey)
    }
    assert notes["grey"] == ("grayscale",)
    assert notes["alpha"] == ("transparency, laid on white",)
    assert notes["deep"] == ("16 bits a channel, reduced to 8",)
    assert notes["deep-grey"] == ("grayscale", "16 bits a channel, reduced to 8")
    assert cut_out(save(tmp_path / "plain.jpg", smooth(64, 64)), None, settings).notes == ()


def test_aligned_pictures_must_be_square(tmp_path: Path) -> None:
    with pytest.raises(SetAside, match="an aligned face is square"):
        cut_out(save(tmp_path / "p.png", smooth(60, 80)), None, CutOutSettings(aligned=True))


def test_a_tiny_face_is_noted(tmp_path: Path) -> None:
    cut = cut_out(save(tmp_path / "p.png", smooth(60, 80)), Sees(face(0.05, 20, 10)))
    assert cut.notes == ("tiny: 6 px between the eyes",)

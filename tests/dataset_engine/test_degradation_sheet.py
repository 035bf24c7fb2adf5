"""The severity ladder is written whole, in order, and bad files are set aside with their reason."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset_engine.degradation import preset
from dataset_engine.degradation.sheet import climb, write_ladder


@pytest.fixture
def photograph(tmp_path):
    rng = np.random.default_rng(4)
    field = cv2.GaussianBlur(rng.normal(size=(140, 180, 3)), (0, 0), 3) * 300 + 128
    path = tmp_path / "in" / "face.png"
    path.parent.mkdir()
    Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).save(path)
    return path


def ladder(images, out, **options):
    return write_ladder(images, out, columns=2, draws=3, cell=64, **options)


def bomb(path):
    """A PNG that claims 50,000 x 50,000 px."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))


def test_a_row_for_each_image_and_preset(photograph, tmp_path):
    steps = []
    out = tmp_path / "deep" / "sheet.png"
    result = ladder(
        [photograph], out, presets=("paper", "diffbir"), progress=lambda *s: steps.append(s)
    )
    assert (result.path, result.rows, result.set_aside) == (out, 2, ())
    assert steps == [(1, 2), (2, 2)]
    with Image.open(out) as sheet:
        assert sheet.width == 6 + 3 * (64 + 6)
        assert sheet.height == 2 * (22 + 64 + 20 + 6)
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]


def test_same_seed_same_sheet(photograph, tmp_path):
    sheets = []
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 50)):
        ladder([photograph], tmp_path / name, seed=seed)
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_columns_rise_in_severity_from_the_mildest_to_the_worst(photograph):
    image = np.array(Image.open(photograph).resize((128, 128)))
    region = np.ones((128, 128), bool)
    rungs = climb(image, region, preset("paper"), seed=3, columns=4, draws=10)
    every = climb(image, region, preset("paper"), seed=3, columns=10, draws=10)
    kept = [rung.kept for rung in rungs]
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[-1]) == (every[0].kept, every[-1].kept)
    assert {rung.seed for rung in every} == set(range(3, 13))


def test_bad_files_are_set_aside_and_the_rest_goes_on(photograph, tmp_path):
    folder = photograph.parent
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.png").write_bytes(photograph.read_bytes()[:2000])
    Image.new("RGB", (20, 20)).save(folder / "icon.png")
    bomb(folder / "bomb.png")
    names = ["text.jpg", "cut.png", "icon.png", "bomb.png", "absent.png"]
    result = ladder([*(folder / name for name in names), photograph], tmp_path / "sheet.png")
    assert result.rows == 1
    assert [item.path.name for item in result.set_aside] == names
    reasons = dict(zip(names, (item.reason for item in result.set_aside), strict=True))
    assert "cannot identify" in reasons["text.jpg"]
    assert "truncated" in reasons["cut.png"]
    assert "20 x 20 px is too small" in reasons["icon.png"]
    assert "pixels" in reasons["bomb.png"]
    assert "No such file" in reasons["absent.png"]


def test_a_region_sidecar_is_used_and_is_no_row_of_its_own(photograph, tmp_path):
    ladder([photograph], tmp_path / "whole.png")
    sidecar = photograph.with_name("face.region.png")
    region = np.zeros((140, 180), np.uint8)
    region[40:90, 60:120] = 255
    Image.fromarray(region).save(sidecar)
    result = ladder([photograph, sidecar], tmp_path / "inside.png")
    assert (result.rows, result.set_aside) == (1, ())
    assert (tmp_path / "whole.png").read_bytes() != (tmp_path / "inside.png").read_bytes()
    Image.fromarray(region * 0).save(sidecar)
    with pytest.raises(ValueError, match=r"face\.region\.png is empty"):
        ladder([photograph], tmp_path / "none.png")


def test_grey_transparent_and_turned_photographs_are_taken(photograph, tmp_path):
    with Image.open(photograph) as image:
        paths = []
        for mode in ("L", "RGBA", "P"):
            paths.append(photograph.with_name(f"{mode}.png"))
            image.convert(mode).save(paths[-1])
    assert ladder(paths, tmp_path / "sheet.png").rows == 3


def test_no_sheet_without_an_image(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"for want of one readable image .*text\.jpg"):
        ladder([tmp_path / "text.jpg"], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_an_interrupted_write_leaves_the_old_sheet(photograph, tmp_path, monkeypatch):
    out = tmp_path / "sheet.png"
    out.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ladder([photograph], out)
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "sheet.png"}


@pytest.mark.parametrize("columns", [1, 6])
def test_impossible_columns_are_refused(photograph, tmp_path, columns):
    with pytest.raises(ValueError, match="columns: expected 2 to 5"):
        write_ladder([photograph], tmp_path / "sheet.png", columns=columns, draws=5)

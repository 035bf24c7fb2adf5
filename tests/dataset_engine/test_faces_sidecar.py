"""Sidecars are read exactly, and a bad one is named with its cause."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_engine.faces.alignment import TEMPLATE
from dataset_engine.faces.sidecar import BadSidecar, is_sidecar, read_sidecar

POINTS = TEMPLATE.tolist()


def image_path(folder: Path, document: object = None, region: Image.Image | None = None) -> Path:
    if document is not None:
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / "00.face.json").write_text(text)
    if region is not None:
        region.save(folder / "00.region.png")
    return folder / "00.png"


def test_nothing_beside_the_image_is_nothing(tmp_path: Path) -> None:
    found = read_sidecar(image_path(tmp_path), 512, 512)
    assert found.five_points is found.landmarks is found.region is None


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_points_landmarks_and_region_are_read(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((300, 200), np.bool_)
    mask[100:200, 50:150] = True
    region = Image.fromarray(mask.astype(np.uint8) * 255).convert(mode)
    document = {"five_points": (TEMPLATE / 3).tolist(), "landmarks": [[1, 2.5]] * 478}
    found = read_sidecar(image_path(tmp_path, document, region), 200, 300)
    np.testing.assert_allclose(found.five_points, TEMPLATE / 3, atol=1e-4)
    assert found.landmarks is not None
    assert found.landmarks.shape == (478, 2)
    np.testing.assert_array_equal(found.region, mask)


def test_landmarks_may_be_null(tmp_path: Path) -> None:
    path = image_path(tmp_path, {"five_points": POINTS, "landmarks": None})
    assert read_sidecar(path, 512, 512).landmarks is None


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([1], "not a JSON object"),
        ({}, "five_points must be 5 pairs"),
        ({"five_points": POINTS[:4]}, "five_points must be 5 pairs"),
        ({"five_points": [*POINTS[:4], [1, 2, 3]]}, "five_points must be 5 pairs"),
        ({"five_points": [*POINTS[:4], ["1", 2]]}, "five_points must be 5 pairs"),
        ({"five_points": [*POINTS[:4], [True, 2]]}, "five_points must be 5 pairs"),
        ('{"five_points": [[NaN, 1], [2, 2], [3, 3], [4, 4], [5, 5]]}', "5 pairs"),
        ({"five_points": [*POINTS[:4], [1e300, 2]]}, "five_points must be 5 pairs"),
        ({"five_points": POINTS, "landmarks": POINTS}, "landmarks must be 478 pairs"),
        ({"five_points": (TEMPLATE * 3).tolist()}, "outside the 512x512 image"),
        ({"five_points": (TEMPLATE * [-1, 1] + [512, 0]).tolist()}, "eye on the left"),
        ({"five_points": [[9, 9]] * 5}, "eye on the left"),
        ('{"five_points": ' + " " * 2_000_000 + "1}", "bytes"),
    ],
)
def test_bad_points_are_named_with_their_cause(
    tmp_path: Path, document: object, cause: str
) -> None:
    with pytest.raises(BadSidecar, match=rf"00\.face\.json: .*{cause}"):
        read_sidecar(image_path(tmp_path, document), 512, 512)


def test_bad_regions_are_named_with_their_cause(tmp_path: Path) -> None:
    path = tmp_path / "00.png"
    region = tmp_path / "00.region.png"
    for image, cause in (
        (Image.new("L", (512, 512)), "empty"),
        (Image.new("L", (256, 512), 255), "256x512, and the image is 512x512"),
        (Image.new("L", (2000, 2000), 255), "over the limit"),
    ):
        image.save(region)
        with pytest.raises(BadSidecar, match=rf"00\.region\.png: .*{cause}"):
            read_sidecar(path, 512, 512)
    region.write_bytes(b"junk")
    with pytest.raises(BadSidecar, match=r"00\.region\.png: not a"):
        read_sidecar(path, 512, 512)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps({"five_points": POINTS}))
    (tmp_path / "00.face.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BadSidecar, match="symbolic link"):
        read_sidecar(tmp_path / "00.png", 512, 512)


def test_sidecars_are_not_images() -> None:
    assert is_sidecar(Path("a/00.region.png"))
    assert is_sidecar(Path("a/00.face.json"))
    assert not is_sidecar(Path("a/00.png"))
    assert not is_sidecar(Path("a/region.png"))

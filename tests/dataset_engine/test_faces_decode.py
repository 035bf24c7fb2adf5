"""Every kind of image file becomes upright RGB, and every kind of trouble has its reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dataset_engine.faces.decode import (
    SUFFIXES,
    DecodeLimits,
    ImageTooLarge,
    UnreadableImage,
    read_image,
)


def picture() -> np.ndarray:
    """Smooth, so that lossy formats stay close: red grows rightwards, green downwards."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, np.full_like(x, 90)], axis=-1).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(picture()))
    pixels = read_image(path)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - picture()).mean() < 4


def test_lossless_pixels_are_exact_and_writable(tmp_path: Path) -> None:
    pixels = read_image(saved(tmp_path / "a.png", Image.fromarray(picture())))
    np.testing.assert_array_equal(pixels, picture())
    pixels[0, 0] = 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(picture())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read_image(saved(tmp_path / "a.png", stored, exif=exif))
    np.testing.assert_array_equal(pixels, picture())


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.full((40, 60), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    pixels = read_image(saved(tmp_path / "a.png", Image.fromarray(rgba)))
    assert (pixels[:20] == 255).all()
    np.testing.assert_array_equal(pixels[20:], picture()[20:])


def test_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 1)
    pixels = read_image(saved(tmp_path / "a.png", palette, transparency=0))
    assert (pixels[4, 4] == 255).all()
    assert tuple(pixels[0, 0]) == (40, 50, 60)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = read_image(saved(tmp_path / f"a{suffix}", Image.fromarray(ramp)))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp / 257).astype(np.uint8))
    assert (pixels == pixels[..., :1]).all()


def test_float_grey_counts_as_a_fraction(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)
    pixels = read_image(saved(tmp_path / "a.tiff", Image.fromarray(ramp)))
    assert pixels.min() == 0
    assert pixels.max() == 255


@pytest.mark.parametrize("mode", ["L", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    pixels = read_image(saved(tmp_path / "a.tiff", image))
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_colour_profile_is_converted_and_a_broken_one_is_passed_over(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile"):
        path = saved(tmp_path / "a.png", Image.fromarray(picture()), icc_profile=profile)
        np.testing.assert_array_equal(read_image(path), picture())
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    path = saved(tmp_path / "x.png", Image.fromarray(picture()), icc_profile=xyz)
    assert read_image(path).shape == (40, 60, 3)


def test_first_frame_of_several_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture()), Image.new("RGB", (60, 40))]
    path = saved(tmp_path / "a.tiff", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated_file_is_unreadable(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert caught.value.reason


def test_garbage_and_text_are_unreadable(tmp_path: Path) -> None:
    for payload in (b"hello", os.urandom(4096), b"\xff\xd8\xff\xe0" + bytes(500)):
        path = tmp_path / "a.jpg"
        path.write_bytes(payload)
        with pytest.raises(UnreadableImage):
            read_image(path)


def test_other_formats_are_refused_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(tmp_path / "a.gif", Image.fromarray(picture())).read_bytes())
    with pytest.raises(UnreadableImage, match="not a JPEG, PNG"):
        read_image(path)


def test_what_is_not_a_regular_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, words in [
        (tmp_path / "pipe.jpg", "regular"),
        (tmp_path, "regular"),
        (tmp_path / "absent.jpg", "No such file"),
    ]:
        with pytest.raises(UnreadableImage, match=words):
            read_image(path)


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    out = io.BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n")
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        out.write(struct.pack(">I", len(data)) + kind + data)
        out.write(struct.pack(">I", zlib.crc32(kind + data)))
    return out.getvalue()


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000), (40_000, 10)])
def test_image_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(ImageTooLarge, match=r"pixel|side"):
        read_image(path)


def test_limits_are_the_callers(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(picture()))
    with pytest.raises(ImageTooLarge, match="60x40 pixels, over the limit of 1,000"):
        read_image(path, DecodeLimits(max_pixels=1000))
    with pytest.raises(ImageTooLarge, match="bytes"):
        read_image(path, DecodeLimits(max_bytes=10))
    with pytest.raises(ValueError, match="positive"):
        DecodeLimits(max_pixels=0)

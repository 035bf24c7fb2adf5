"""brush.py against the SDK's own converter, and against streams that nobody should trust."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, mask2rle

from annotator.brush import BrushError, decode_mask, encode_mask

SIZES = st.integers(1, 40)
RANDOM_MASKS = hnp.arrays(np.bool_, st.tuples(SIZES, SIZES))


def sdk_encode(mask: np.ndarray) -> list[int]:
    return mask2rle(mask.astype(np.uint8) * 255)


def face_like(side: int = 512) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side - 0.5
    face = (x / 0.3) ** 2 + (y / 0.4) ** 2 < 1
    mouth = (x / 0.1) ** 2 + ((y - 0.2) / 0.05) ** 2 < 1
    return face & ~mouth


@st.composite
def long_runs(draw: st.DrawFn) -> np.ndarray:
    """Wide masks with runs around every change of width: 8, 16, 256 and 65,536 samples."""
    near = st.sampled_from([1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 32768, 32769])
    runs = draw(st.lists(near, min_size=1, max_size=8))
    inside = draw(st.booleans())
    values = [inside ^ bool(i % 2) for i in range(len(runs))]
    return np.repeat(np.array(values), runs)[None]


@st.composite
def faces(draw: st.DrawFn) -> np.ndarray:
    """Faces with a mouth, of any size and place, their edges and insides more or less ragged."""
    height, width = draw(st.integers(16, 160)), draw(st.integers(16, 160))
    y, x = np.mgrid[:height, :width]
    middle, tall = draw(st.integers(0, height)), draw(st.integers(1, height))
    centre, wide = draw(st.integers(0, width)), draw(st.integers(1, width))
    face = ((x - centre) / wide) ** 2 + ((y - middle) / tall) ** 2 < 0.25
    mouth = ((x - centre) / wide) ** 2 + ((y - middle) / tall - 0.2) ** 2 < 0.01
    noise = np.random.default_rng(draw(st.integers(0, 99))).random((height, width))
    return face & ~mouth & (noise >= draw(st.sampled_from([0.0, 0.02, 0.2, 0.5])))


def bits_of(number: int, width: int) -> str:
    return f"{number:0{width}b}"


@st.composite
def editor_streams(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Streams as rle-pack may write them: literals, any alpha, any widths, 0 to 7 pad bits."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    samples = height * width * 4
    sizes = draw(st.sampled_from([(3, 4, 8, 16), (1, 2, 5, 9), (16, 3, 4, 8)]))
    out = bits_of(samples, 32) + bits_of(7, 5) + "".join(bits_of(s - 1, 4) for s in sizes)
    left = samples
    while left:
        index = draw(st.integers(0, 3))
        length = draw(st.integers(1, min(left, 1 << sizes[index])))
        run = draw(st.booleans())
        words = draw(st.lists(st.integers(0, 255), min_size=1, max_size=1 if run else length))
        if not run:
            words = (words * length)[:length]
        out += bits_of(run, 1) + bits_of(index, 2) + bits_of(length - 1, sizes[index])
        out += "".join(bits_of(word, 8) for word in words)
        left -= length
    out += "0" * (-len(out) % 8)
    return [int(out[i : i + 8], 2) for i in range(0, len(out), 8)], height, width


@given(RANDOM_MASKS)
def test_any_mask_is_encoded_as_the_sdk_does_and_comes_back(mask: np.ndarray) -> None:
    rle = encode_mask(mask)
    assert rle == sdk_encode(mask)
    assert np.array_equal(decode_mask(rle, *mask.shape), mask)


@given(faces())
def test_smooth_and_ragged_faces_are_encoded_as_the_sdk_does(mask: np.ndarray) -> None:
    rle = encode_mask(mask)
    assert rle == sdk_encode(mask)
    assert np.array_equal(decode_mask(rle, *mask.shape), mask)


@given(long_runs())
def test_runs_at_the_limits_of_each_width_are_encoded_as_the_sdk_does(mask: np.ndarray) -> None:
    rle = encode_mask(mask)
    assert rle == sdk_encode(mask)
    assert np.array_equal(decode_mask(rle, *mask.shape), mask)


@pytest.mark.parametrize("kind", ["empty", "full", "face", "ragged", "noise", "transposed"])
def test_a_face_sized_mask_is_byte_identical_to_the_sdk(kind: str) -> None:
    rng = np.random.default_rng(5)
    mask = {
        "empty": np.zeros((512, 512), bool),
        "full": np.ones((512, 512), bool),
        "face": face_like(),
        "ragged": face_like() & (rng.random((512, 512)) > 0.02),
        "noise": rng.random((128, 128)) > 0.5,
        "transposed": face_like().T[:, 100:300],
    }[kind]
    rle = encode_mask(mask)
    assert rle == sdk_encode(mask)
    assert np.array_equal(decode_mask(rle, *mask.shape), mask)
    assert json.loads(json.dumps(rle)) == rle


@given(editor_streams())
def test_literals_and_partial_alpha_are_read_as_the_sdk_reads_them(
    stream: tuple[list[int], int, int],
) -> None:
    rle, height, width = stream
    expected = decode_rle(rle).reshape(height, width, 4)[..., 3] > 127
    assert np.array_equal(decode_mask(rle, height, width), expected)


@given(editor_streams(), st.data())
def test_every_shortened_stream_is_refused(
    stream: tuple[list[int], int, int], data: st.DataObject
) -> None:
    rle, height, width = stream
    cut = data.draw(st.integers(0, len(rle) - 1))
    with pytest.raises(BrushError, match="cut short"):
        decode_mask(rle[:cut], height, width)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 255), max_size=60))
def test_noise_never_does_worse_than_a_brush_error(rle: list[int]) -> None:
    header = encode_mask(np.zeros((3, 5), bool))[:6]
    for stream in (rle, header + rle):
        with contextlib.suppress(BrushError):
            assert decode_mask(stream, 3, 5).shape == (3, 5)


def test_bytes_after_the_last_pixel_are_ignored_as_the_sdk_ignores_them() -> None:
    rle = encode_mask(face_like(32))
    assert np.array_equal(decode_mask([*rle, 255, 1, 2, 3], 32, 32), face_like(32))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("@AAAA", "must be a list of bytes, not str"),
        (b"\x00\x00", "must be a list of bytes, not bytes"),
        ({"rle": 1}, "not dict"),
        (None, "not NoneType"),
        ([0, 16, 0, 0, 57, 27, 300], "whole numbers, 0 to 255"),
        ([0, 16, 0, 0, 57, 27, -1], "whole numbers, 0 to 255"),
        ([0, 16.0, 0, 0], "whole numbers, 0 to 255"),
        ([0, "16", 0, 0], "whole numbers, 0 to 255"),
        ([0, None], "whole numbers, 0 to 255"),
        ([], "cut short: 0 bytes"),
    ],
)
def test_what_is_not_a_list_of_bytes_is_refused(rle: object, message: str) -> None:
    with pytest.raises(BrushError, match=message):
        decode_mask(rle, 512, 512)  # type: ignore[arg-type]


def test_another_size_is_refused_by_name() -> None:
    with pytest.raises(BrushError, match=r"of 1024 pixels, but 512 x 512 has 262144"):
        decode_mask(encode_mask(face_like(32)), 512, 512)


def test_words_of_another_width_are_refused() -> None:
    rle = encode_mask(np.ones((4, 4), bool))
    rle[4] = (rle[4] & 7) | (15 << 3)
    with pytest.raises(BrushError, match="words of 16 bits"):
        decode_mask(rle, 4, 4)


@pytest.mark.parametrize("samples", [0xFFFFFFFF, 4, 0])
def test_a_lying_header_allocates_nothing(samples: int) -> None:
    rle = [*samples.to_bytes(4, "big"), *encode_mask(face_like())[4:]]
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(BrushError, match="pixels"):
        decode_mask(rle, 512, 512)
    assert time.perf_counter() - began < 0.1
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_stream_longer_than_the_picture_can_need_is_refused_unread() -> None:
    with pytest.raises(BrushError, match="more than 16 pixels can need"):
        decode_mask([0] * 100_000, 4, 4)


@pytest.mark.parametrize(
    "mask",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), bool), np.zeros((0, 4), bool)],
    ids=["uint8", "three axes", "no pixel"],
)
def test_what_is_no_mask_is_not_encoded(mask: np.ndarray) -> None:
    with pytest.raises(BrushError, match="mask"):
        encode_mask(mask)


def test_strokes_of_the_real_editor_are_thresholded() -> None:
    """RGB equals alpha in an antialiased stroke; 127 is outside and 128 inside."""
    words = [v for alpha in (0, 1, 127, 128, 254, 255) for v in [alpha] * 4]
    out = bits_of(24, 32) + bits_of(7, 5) + "".join(bits_of(s - 1, 4) for s in (3, 4, 8, 16))
    out += "0" + "10" + bits_of(23, 8) + "".join(bits_of(word, 8) for word in words)
    out += "0" * (-len(out) % 8)
    rle = [int(out[i : i + 8], 2) for i in range(0, len(out), 8)]
    assert decode_mask(rle, 2, 3).tolist() == [[False, False, False], [True, True, True]]

"""A configured face parser decides the region by its classes; a wrong file is refused at once."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from dataset_engine.faces.alignment import TEMPLATE
from dataset_engine.faces.parser import FACE_CLASSES, OnnxFaceParser, ParserError

FIVE = TEMPLATE.astype(np.float32)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    """One field of a protocol buffer: ONNX files are that, and so small a one needs no library."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(field(1, int(side)) for side in array.shape)
    return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def value_info(name: str, shape: list[int]) -> bytes:
    dims = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def write_parser(path: Path, weight: np.ndarray, bias: np.ndarray, side: int = 512) -> Path:
    """A network of one 1x1 convolution: logits linear in the normalised colour."""
    classes, channels = weight.shape
    node = field(1, "x") + field(1, "w") + field(1, "b") + field(2, "y") + field(4, "Conv")
    graph = (
        field(1, node)
        + field(2, "parser")
        + field(5, tensor("w", weight[:, :, None, None]))
        + field(5, tensor("b", bias))
        + field(11, value_info("x", [1, channels, side, side]))
        + field(12, value_info("y", [1, classes, side, side]))
    )
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    return path


def colour_parser(path: Path, face_class: int = 1, side: int = 512) -> Path:
    """Red is `face_class`, green is hair (17), blue is the left ear (7), black is background."""
    weight, bias = np.zeros((19, 3), np.float32), np.full(19, -99, np.float32)
    bias[0] = 0
    for channel, number in ((0, face_class), (1, 17), (2, 7)):
        weight[number, channel], bias[number] = 1, -0.5
    return write_parser(path, weight, bias, side)


def scene() -> np.ndarray:
    image = np.zeros((512, 512, 3), np.uint8)
    image[120:440, 130:380, 0] = 255
    image[60:120, 130:380, 1] = 255
    image[200:300, 380:400, 2] = 255
    image[300:320, 250:270] = 0  # a nostril that the network misses
    image[0:200, 460:512, 0] = 255  # a neighbour
    return image


def test_the_writer_encodes_what_it_should() -> None:
    assert field(1, 300) == b"\x08\xac\x02"
    assert field(2, "ab") == b"\x12\x02ab"
    assert struct.unpack("<f", tensor("w", np.array([1.5]))[-4:])[0] == 1.5


@pytest.mark.parametrize("side", [512, 128])
def test_region_is_the_face_piece_without_hair_ears_and_neighbours(
    tmp_path: Path, side: int
) -> None:
    parser = OnnxFaceParser(colour_parser(tmp_path / "p.onnx", side=side))
    region = parser.region(scene(), FIVE, None)
    expected = np.zeros((512, 512), np.bool_)
    expected[120:440, 130:380] = True
    assert region.dtype == np.bool_
    assert (region ^ expected).sum() < 3000 * (512 // side) / 2


@pytest.mark.parametrize("number", range(19))
def test_exactly_the_face_classes_count(tmp_path: Path, number: int) -> None:
    if number in (0, 7, 17):
        assert number not in FACE_CLASSES
        return
    parser = OnnxFaceParser(colour_parser(tmp_path / "p.onnx", number, side=64))
    assert parser.region(scene(), FIVE, None).any() == (number in FACE_CLASSES)


def test_other_numbering_may_be_given(tmp_path: Path) -> None:
    weights = colour_parser(tmp_path / "p.onnx", side=64)
    parser = OnnxFaceParser(weights, face_classes=(17,))
    region = parser.region(scene(), FIVE - [0, 150], None)
    assert region[90, 250]
    assert not region[250, 250]
    with pytest.raises(ParserError, match="between 0 and 18"):
        OnnxFaceParser(weights, face_classes=(19,))


def test_no_face_at_the_points_is_an_empty_region(tmp_path: Path) -> None:
    parser = OnnxFaceParser(colour_parser(tmp_path / "p.onnx", side=64))
    assert not parser.region(np.zeros((512, 512, 3), np.uint8), FIVE, None).any()


def test_absent_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParserError, match=r"absent\.onnx: no such file"):
        OnnxFaceParser(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(ParserError, match=r"text\.onnx: not an ONNX network"):
        OnnxFaceParser(tmp_path / "text.onnx")


def test_wrong_shapes_are_refused_when_loading(tmp_path: Path) -> None:
    eleven = write_parser(tmp_path / "11.onnx", np.zeros((11, 3)), np.zeros(11), side=64)
    with pytest.raises(ParserError, match=r"\[1, 19, H, W\].*\[1, 11, 64, 64\]"):
        OnnxFaceParser(eleven)
    grey = write_parser(tmp_path / "grey.onnx", np.zeros((19, 1)), np.zeros(19), side=64)
    with pytest.raises(ParserError, match=r"takes one image \[1, 3, H, W\]"):
        OnnxFaceParser(grey)

"""Label Studio's brush RLE to and from boolean masks, vectorised.

The format is thi.ng's rle-pack over the RGBA bytes of a picture: 32 bits with the number of
samples, 5 bits word size - 1, four 4-bit run-length widths - 1, then tokens. A token is a flag bit,
a 2-bit index of a width, a length - 1 of that width, and one word (flag 1, a run) or as many words
as the length (flag 0, literals). Here a word is always 8 bits and only alpha matters.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 127
"""Alpha above this is inside the mask; the editor's strokes have antialiased edges."""

_WIDTHS = (3, 4, 8, 16)
_HEADER_BITS = 53
_LONGEST_RUN = 1 << 16
_LONGEST_TOKEN = 3 + 16 + 8
_MAX_PIXELS = (1 << 30) - 1


class BrushError(ValueError):
    """A mask that cannot be encoded, or an RLE that is not one of a mask of the expected size."""


def encode_mask(mask: NDArray[np.bool_]) -> list[int]:
    """Encode a mask as the RLE of an RGBA picture that is 255 inside and 0 outside.

    The bytes are those of ``label_studio_sdk.converter.brush.mask2rle(mask * 255)``.

    Args:
        mask: bool [H, W], at least one pixel.

    Returns:
        Bytes as integers, 0 to 255, ready for JSON.

    Raises:
        BrushError: the array is not boolean, not two-dimensional, or has no pixel.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise BrushError(f"a mask must be bool [H, W], not {mask.dtype} {list(mask.shape)}")
    _check_size(*mask.shape)
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends_of_runs = np.append(changes, flat.size - 1)
    runs: NDArray[np.int64] = np.diff(ends_of_runs, prepend=-1) * 4
    inside: NDArray[np.int64] = np.zeros(len(runs), np.int64)
    inside[(0 if flat[0] else 1) :: 2] = 255

    # A run's width is chosen before it is split: the rest of a long run stays a 16-bit token.
    index: NDArray[np.int64] = (runs > 8).astype(np.int64) + (runs > 16) + (runs > 256)
    if runs.max() > _LONGEST_RUN:
        pieces = (runs + _LONGEST_RUN - 1) // _LONGEST_RUN
        last = np.cumsum(pieces) - 1
        rest = runs - (pieces - 1) * _LONGEST_RUN
        index, inside = np.repeat(index, pieces), np.repeat(inside, pieces)
        runs = np.full(len(index), _LONGEST_RUN, np.int64)
        runs[last] = rest

    width = np.array(_WIDTHS, np.int64)[index]
    tokens = ((4 | index) << (width + 8)) | ((runs - 1) << 8) | inside
    ends = np.cumsum(width + 11)
    starts = ends - width - 11 + _HEADER_BITS
    total_bits = int(ends[-1]) + _HEADER_BITS
    # The SDK pads with 1 to 8 zero bits, never with none.
    stream = np.zeros(total_bits // 8 + 5, np.uint8)
    header = (flat.size * 4) << 21 | 7 << 16 | 0x237F
    stream[:7] = np.frombuffer((header << 3).to_bytes(7, "big"), np.uint8)
    base = starts >> 3
    window = tokens << (40 - (starts & 7) - width - 11)
    # Tokens have 14 bits or more, so no two share a first byte: one OR per byte of the window.
    for byte in range(5):
        stream[base + byte] |= (window >> (32 - 8 * byte)).astype(np.uint8)
    encoded: list[int] = stream[: total_bits // 8 + 1].tolist()
    return encoded


def decode_mask(rle: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Decode an RLE, from this module, the SDK or the editor, into a mask.

    Time and memory are bounded by the expected size and not by what the stream says of itself.

    Args:
        rle: list of bytes as integers, 0 to 255.
        height: expected height in pixels.
        width: expected width in pixels.

    Returns:
        bool [height, width], true where alpha is above 127.

    Raises:
        BrushError: not a list of bytes, cut short, or of a picture with another number of pixels.
    """
    _check_size(height, width)
    samples = height * width * 4
    data = _stream_bytes(rle, samples)
    widths = _check_header(data, height, width)
    padded = np.frombuffer(data + bytes(16), np.uint8)
    starts = _token_starts(data, widths)
    windows: NDArray[np.uint64] = np.ndarray((len(data),), ">u8", padded, strides=(1,))
    bits = windows[starts >> 3].astype(np.uint64) << (starts & 7).astype(np.uint64)
    field = np.array(widths, np.uint64)[(bits >> np.uint64(61)) & np.uint64(3)]
    lengths = (bits << np.uint64(3) >> (np.uint64(64) - field)).astype(np.int64) + 1
    ends = np.cumsum(lengths)
    known = int(ends[-1]) if len(ends) else 0
    if known < samples:
        raise BrushError(
            f"the RLE is cut short: it describes {known // 4} of {height * width} pixels"
        )
    # Alpha is sample 4k + 3 of pixel k, so floor(end / 4) pixels are known after a token.
    pixels = np.minimum(ends, samples) >> 2
    counts = np.diff(pixels, prepend=0)
    word = bits << (field + np.uint64(3)) >> np.uint64(56)
    mask: NDArray[np.bool_] = np.repeat(word > THRESHOLD, counts)
    literal = np.flatnonzero((bits >> np.uint64(63) == 0) & (counts > 0))
    if len(literal):
        # Where sample 0 would lie if the literals of the token went back that far.
        origin = (starts + 3 + field.astype(np.int64) - 8 * (ends - lengths))[literal]
        covered = counts[literal]
        first = (pixels - counts)[literal]
        pixel = np.arange(int(covered.sum())) + np.repeat(
            first - np.cumsum(covered) + covered, covered
        )
        bit = np.repeat(origin, covered) + 8 * (4 * pixel + 3)
        pair = padded[bit >> 3].astype(np.int64) << 8 | padded[(bit >> 3) + 1]
        mask[pixel] = (pair >> (8 - (bit & 7)) & 255) > THRESHOLD
    return mask.reshape(height, width)


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > _MAX_PIXELS:
        raise BrushError(f"a mask cannot be {height} x {width} pixels")


def _stream_bytes(rle: Sequence[int], samples: int) -> bytes:
    if not isinstance(rle, list | tuple):
        raise BrushError(f"an RLE must be a list of bytes, not {type(rle).__name__}")
    if len(rle) * 8 > _HEADER_BITS + samples * _LONGEST_TOKEN + 64:
        raise BrushError(f"the RLE has {len(rle)} bytes, more than {samples // 4} pixels can need")
    try:
        return bytes(rle)
    except (TypeError, ValueError) as error:
        raise BrushError(f"an RLE must be a list of whole numbers, 0 to 255: {error}") from error


def _check_header(data: bytes, height: int, width: int) -> tuple[int, ...]:
    """The four run-length widths, once the header names this size and 8-bit words."""
    if len(data) * 8 < _HEADER_BITS:
        raise BrushError(f"the RLE is cut short: {len(data)} bytes do not hold its header")
    header = int.from_bytes(data[:7], "big") >> 3
    samples, word = header >> 21, (header >> 16 & 31) + 1
    if samples != height * width * 4:
        raise BrushError(
            f"the RLE is of {samples / 4:g} pixels, but {height} x {width} has {height * width}"
        )
    if word != 8:
        raise BrushError(f"the RLE has words of {word} bits; a mask has 8")
    return tuple((header >> shift & 15) + 1 for shift in (12, 8, 4, 0))


@lru_cache(maxsize=4)
def _steps(widths: tuple[int, ...]) -> NDArray[np.uint64]:
    """For a byte and the 2 bits after it: how far a run token at each of its bits reaches.

    Eight steps of one byte each lie in one word; 0 stands for literals, whose reach depends on
    their length.
    """
    ten = np.arange(1 << 10)[:, None] >> (7 - np.arange(8)) & 7
    reach = np.array([0, 0, 0, 0, *(3 + width + 8 for width in widths)], np.uint8)
    words: NDArray[np.uint64] = reach[ten].view(np.uint64).ravel()
    return words


def _token_starts(data: bytes, widths: tuple[int, ...]) -> NDArray[np.int64]:
    """The bit positions of all tokens that lie whole in the stream, and of what follows them."""
    stream = np.frombuffer(data + b"\0", np.uint8)
    ten = stream[:-1].astype(np.uint16) << 2 | stream[1:] >> 6
    steps = _steps(widths)[ten].tobytes()
    starts = array("q")
    append = starts.append
    position, end = _HEADER_BITS, len(steps)
    last = end - (3 + min(widths) + 8)
    while position <= last:
        step = steps[position]
        if not step:
            # The longest head of a token is 19 bits: it lies in 4 bytes wherever it begins.
            head = int.from_bytes(data[position >> 3 : (position >> 3) + 4].ljust(4, b"\0"), "big")
            head = head << (position & 7) & 0xFFFFFFFF
            width = widths[head >> 29 & 3]
            step = 3 + width + 8 * ((head >> (29 - width) & (1 << width) - 1) + 1)
        append(position)
        position += step
    if position > end:
        starts.pop()
    return np.frombuffer(starts, np.int64)

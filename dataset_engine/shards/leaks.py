"""Leaks between splits: one person in two of them, or one picture under two names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_HASH_BITS: Final = 64
_EXAMPLES: Final = 10
_CANDIDATES: Final = 1 << 21
_RUN: Final = 1 << 16
_RADIUS: Final = 2
"""Bits in which a chunk may differ; with 3, more values are looked up than candidates saved."""

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
Confirm = Callable[[int, int], bool]


class NearDuplicate(NamedTuple):
    """Two images of different splits, as rows of the input, and how many bits differ."""

    first: int
    second: int
    distance: int


def near_duplicates(
    hashes: Hashes,
    splits: NDArray[np.uint8],
    distance: int,
    *,
    images: NDArray[np.uint64] | None = None,
    confirm: Confirm | None = None,
) -> tuple[int, list[NearDuplicate]]:
    """Find pairs of images in different splits that are one picture.

    Perceptual hashes that almost agree propose a pair, ``confirm`` decides on it. Two hashes that
    differ in at most ``distance`` bits differ in only a few bits of at least one chunk, so only images
    that almost share a chunk's value are compared. Memory is bounded, whatever is found.

    Args:
        hashes: uint64 [N], one an image; an image that occurs again is counted once a split.
        splits: uint8 [N], the split of each.
        distance: the largest Hamming distance of a pair that is proposed, bits, 0 to 16.
        images: uint64 [N], equal where the image is the same file; None: where its hash is.
        confirm: called with two rows, the lower one first; whether they show one picture. The pairs of
            a row follow each other. None: whatever is proposed counts.

    Returns:
        How many pairs of distinct images there are, and the first ten by row.

    Raises:
        ValueError: if ``distance`` is out of range.
    """
    if not 0 <= distance <= 16:
        raise ValueError(f"a Hamming distance of {distance} bits is not in 0 to 16")
    radius = min(_RADIUS, distance // 4)
    chunks = _chunks(distance // (radius + 1) + 1)
    images = hashes if images is None else images
    groups = {int(split): np.flatnonzero(splits == split) for split in np.unique(splits)}
    unique = {split: _first_of_each(images, rows) for split, rows in groups.items()}
    count = 0
    examples: list[NearDuplicate] = []
    for one, other in combinations(sorted(unique), 2):
        fewer, more = sorted((unique[one], unique[other]), key=len)
        for number in range(len(chunks)):
            used = chunks[: number + 1]
            found = _close(hashes, fewer, more, used, radius=radius, distance=distance)
            for close in _runs(found):
                same = [
                    pair for pair in close if confirm is None or confirm(pair.first, pair.second)
                ]
                count += len(same)
                examples = sorted([*examples, *same[:_EXAMPLES]])[:_EXAMPLES]
    return count, examples


def _runs(blocks: Iterator[list[NearDuplicate]]) -> Iterator[list[NearDuplicate]]:
    """Gather pairs into long sorted runs, in which the pairs of an image follow each other."""
    run: list[NearDuplicate] = []
    for block in blocks:
        run += block
        if len(run) >= _RUN:
            yield sorted(run)
            run = []
    yield sorted(run)


def _chunks(number: int) -> list[np.uint64]:
    """Bit masks that cut 64 bits into ``number`` runs of almost equal length."""
    edges = [_HASH_BITS * i // number for i in range(number + 1)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]


def _patterns(chunk: np.uint64, radius: int) -> Iterator[np.uint64]:
    """All ways to flip at most ``radius`` bits of a chunk."""
    bits = [1 << bit for bit in range(_HASH_BITS) if int(chunk) >> bit & 1]
    for number in range(radius + 1):
        for flipped in combinations(bits, number):
            yield np.uint64(sum(flipped))


def _first_of_each(images: NDArray[np.uint64], rows: Rows) -> Rows:
    """The first row of every distinct image among ``rows``."""
    return rows[np.unique(images[rows], return_index=True)[1]]


def _close(
    hashes: Hashes,
    left: Rows,
    right: Rows,
    chunks: list[np.uint64],
    *,
    radius: int,
    distance: int,
) -> Iterator[list[NearDuplicate]]:
    """Pairs of close rows that almost agree in the last of ``chunks`` and in none of the others.

    To almost agree is to differ in at most ``radius`` bits. Yields a block of candidates at a time.
    """
    *earlier, chunk = chunks
    left = left[np.argsort(hashes[left] & chunk, kind="stable")]
    order = right[np.argsort(hashes[right] & chunk, kind="stable")]
    wanted, values = hashes[left] & chunk, hashes[order] & chunk
    for pattern in _patterns(chunk, radius):
        low = np.searchsorted(values, wanted ^ pattern, "left")
        high = np.searchsorted(values, wanted ^ pattern, "right")
        edges = np.concatenate([[0], np.cumsum(high - low)])
        for at in range(0, int(edges[-1]), _CANDIDATES):
            flat = np.arange(at, min(at + _CANDIDATES, int(edges[-1])))
            owner = np.searchsorted(edges, flat, "right") - 1
            one, two = left[owner], order[low[owner] + flat - edges[owner]]
            differing = hashes[one] ^ hashes[two]
            close = np.bitwise_count(differing) <= distance
            for mask in earlier:
                close &= np.bitwise_count(differing & mask) > radius
            one, two, differing = one[close], two[close], differing[close]
            first, second = np.minimum(one, two), np.maximum(one, two)
            bits = np.bitwise_count(differing)
            rows = zip(first.tolist(), second.tolist(), bits.tolist(), strict=True)
            yield [NearDuplicate(*pair) for pair in rows]

"""Masks proposed by the bootstrap U-Net for the pairs that nobody has reviewed yet.

Decoding, the network and the cleaning of masks each have threads of their own, with short queues
between them; the caller's thread is left for storing what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dataset_engine.pair_images import SIDE, BrokenPair, PairFiles, PairImages, read_pair
from dataset_engine.shards.prefetch import prefetch
from models.exported import ExportedRefSel
from models.inference import margins
from models.refsel import RefSel

SPECK_AREA = 24
"""Islands of fewer pixels than this are the network's noise, too small even for a mole."""
BATCHES_AHEAD = 2
"""Batches ready beyond those in the network, so that it never waits for whoever stores the masks."""


@dataclass(frozen=True)
class Proposal:
    """A proposed mask bool[512, 512] inside the face region, and the model's confidence.

    `score` is the mean of max(p, 1 - p) over the face region, in [0.5, 1]; 0 for an empty region.
    `entropy` is the mean predictive entropy there, bits in [0, 1], and `flip_disagreement` the share of
    it in [0, 1] that the model decides otherwise when both images are mirrored; None where it was
    not asked for.
    """

    key: str
    mask: NDArray[np.bool_]
    score: float
    entropy: float = 0.0
    flip_disagreement: float | None = None


@dataclass(frozen=True)
class _Answer:
    key: str
    region: NDArray[np.bool_]
    margin: NDArray[np.float32]
    mirrored: NDArray[np.float32] | None


def propose(
    model: RefSel | ExportedRefSel,
    pairs: Iterable[PairFiles],
    *,
    batch_size: int = 4,
    workers: int = 1,
    flips: bool = False,
    set_aside: Callable[[str, str], None] = lambda _key, _reason: None,
) -> Iterator[Proposal]:
    """Propose masks in the order of `pairs`, with decoding, network and cleaning side by side.

    Memory holds a few batches, however many pairs there are. A pair whose files cannot be read goes to
    `set_aside(key, reason)` and the rest goes on. With one model, `batch_size`, machine and number of
    threads, a pair's proposal is the same to the bit whatever other pairs are asked for: each forward
    has a full batch, the last one filled up with repetitions, and so always the same arithmetic.

    Args:
        model: a bootstrap U-Net or RefSel, which is put in evaluation mode and channels-last; or
            an exported one for batches of `batch_size`.
        pairs: the pairs' files, read lazily.
        batch_size: pairs a forward pass.
        workers: decoding threads, and as many for cleaning.
        flips: whether the mirrored pair is asked for, too, which costs a second forward pass.
        set_aside: told of each pair that cannot be read, in the caller's thread.
    """
    if isinstance(model, RefSel):
        model.eval().to(memory_format=torch.channels_last)
    threshold = model.config.threshold
    read = partial(read_pair, side=model.config.working_size or SIDE)
    decoded = prefetch(read, pairs, workers=workers, ahead=2 * batch_size)
    batches = _batches(decoded, batch_size, set_aside)
    streams = model.streams if isinstance(model, ExportedRefSel) else 1
    ask = partial(_answer, model, batch_size, flips=flips)
    answers = prefetch(ask, batches, workers=streams, ahead=streams + BATCHES_AHEAD)
    yield from prefetch(
        partial(_finish, cut=math.log(threshold / (1 - threshold))),
        chain.from_iterable(answers),
        workers=workers,
        ahead=2 * batch_size,
    )


def _batches(
    decoded: Iterable[PairImages | BrokenPair], size: int, set_aside: Callable[[str, str], None]
) -> Iterator[list[PairImages]]:
    gathered: list[PairImages] = []
    for one in decoded:
        if isinstance(one, BrokenPair):
            set_aside(one.key, one.reason)
            continue
        gathered.append(one)
        if len(gathered) == size:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _answer(
    model: RefSel | ExportedRefSel, size: int, batch: list[PairImages], *, flips: bool
) -> list[_Answer]:
    full = batch + [batch[-1]] * (size - len(batch))
    gts, references = [one.gt for one in full], [one.reference for one in full]
    found = _margins(model, gts, references)
    mirrored: list[NDArray[np.float32] | None] = [None] * len(batch)
    if flips:
        back = _margins(model, _mirrored(gts), _mirrored(references))[:, :, ::-1]
        mirrored = list(np.ascontiguousarray(back[: len(batch)]))
    return [
        _Answer(one.key, one.region, margin, other)
        for one, margin, other in zip(batch, found, mirrored, strict=False)
    ]


def _margins(
    model: RefSel | ExportedRefSel,
    gts: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.uint8]],
) -> NDArray[np.float32]:
    if isinstance(model, ExportedRefSel):
        return model.margins(gts, references)
    return margins(model, gts, references)


def _mirrored(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [np.ascontiguousarray(image[:, ::-1]) for image in images]


def _finish(answer: _Answer, cut: float) -> Proposal:
    # the margin of the two logits is linear in them: interpolating it is interpolating the logits
    margin = cv2.resize(answer.margin, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    # how sure the network is shows where it answers; its pixels are enough, and fewer
    side = answer.margin.shape[::-1]
    region = cv2.resize(answer.region.view(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0
    inside = answer.margin[region]
    unsure = 1 / (1 + np.exp(np.abs(inside)))  # the probability of the less likely class
    disagreement = None
    if answer.mirrored is not None:
        differs = (inside > cut) != (answer.mirrored[region] > cut)
        disagreement = float(differs.mean()) if differs.size else 0.0
    return Proposal(
        key=answer.key,
        mask=clean_mask(margin > cut, answer.region),
        score=float((1 - unsure).mean()) if inside.size else 0.0,
        entropy=float(_bits(unsure).mean()) if inside.size else 0.0,
        flip_disagreement=disagreement,
    )


def _bits(unsure: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy in bits of two classes, the less likely one having these probabilities."""
    p = np.maximum(unsure, np.finfo(np.float32).tiny)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)), np.float32)


def clean_mask(
    kept: NDArray[np.bool_], region: NDArray[np.bool_], speck_area: int = SPECK_AREA
) -> NDArray[np.bool_]:
    """Clip a mask to the face region and turn islands under `speck_area` pixels over, both ways."""
    mask = np.zeros_like(region)
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    box = (slice(top, top + height), slice(left, left + width))
    if width:
        holes = _without_specks(region[box] & ~kept[box], speck_area)
        mask[box] = _without_specks(region[box] & ~holes, speck_area)
    return mask


def _without_specks(mask: NDArray[np.bool_], area: int) -> NDArray[np.bool_]:
    # of OpenCV's algorithms the fastest on masks, by a third
    _, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S, ccltype=cv2.CCL_GRANA
    )
    large = stats[:, cv2.CC_STAT_AREA] >= area
    large[0] = False
    return np.asarray(large.take(labels), dtype=np.bool_)

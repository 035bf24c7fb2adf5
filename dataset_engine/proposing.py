"""Masks proposed by the bootstrap U-Net for the pairs that nobody has reviewed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dataset_engine.shards.prefetch import prefetch
from models.inference import predict
from models.refsel import RefSel

SIDE = 512
SPECK_AREA = 24
"""Islands of fewer pixels than this are the network's noise, too small even for a mole."""


@dataclass(frozen=True)
class PairFiles:
    """Where a pair's images and the reference's face region lie; `key` is the caller's own."""

    key: str
    gt: Path
    reference: Path
    region: Path


@dataclass(frozen=True)
class Proposal:
    """A proposed mask bool[512, 512] inside the face region, and the model's confidence.

    `score` is the mean of max(p, 1 - p) over the face region, in [0.5, 1]; 0 for an empty region.
    """

    key: str
    mask: NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class _Loaded:
    key: str
    gt: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    region: NDArray[np.bool_]


@dataclass(frozen=True)
class _Broken:
    key: str
    reason: str


def propose(
    model: RefSel,
    pairs: Iterable[PairFiles],
    *,
    batch_size: int = 4,
    workers: int = 1,
    set_aside: Callable[[str, str], None] = lambda _key, _reason: None,
) -> Iterator[Proposal]:
    """Propose masks in the order of `pairs`, decoding the next batches while the network runs.

    Never more than three batches are in memory, however many pairs there are. A pair whose files
    cannot be read goes to `set_aside(key, reason)` and the rest goes on.

    Args:
        model: a bootstrap U-Net or RefSel; it is put in evaluation mode and channels-last.
        pairs: the pairs' files, read lazily.
        batch_size: pairs a forward pass.
        workers: decoding threads.
        set_aside: told of each pair that cannot be read.
    """
    model.eval().to(memory_format=torch.channels_last)
    gathered: list[_Loaded] = []
    for loaded in prefetch(_load, pairs, workers=workers, ahead=2 * batch_size):
        if isinstance(loaded, _Broken):
            set_aside(loaded.key, loaded.reason)
            continue
        gathered.append(loaded)
        if len(gathered) == batch_size:
            yield from _propose_batch(model, gathered)
            gathered = []
    if gathered:
        yield from _propose_batch(model, gathered)


def _propose_batch(model: RefSel, pairs: list[_Loaded]) -> Iterator[Proposal]:
    probabilities = predict(model, [one.gt for one in pairs], [one.reference for one in pairs])
    for pair, p in zip(pairs, probabilities, strict=True):
        inside = p[pair.region]
        yield Proposal(
            key=pair.key,
            mask=clean_mask(p > model.config.threshold, pair.region),
            score=float(np.maximum(inside, 1 - inside).mean()) if inside.size else 0.0,
        )


def clean_mask(
    kept: NDArray[np.bool_], region: NDArray[np.bool_], speck_area: int = SPECK_AREA
) -> NDArray[np.bool_]:
    """Clip a mask to the face region and turn islands under `speck_area` pixels over, both ways."""
    holes = _without_specks(region & ~kept, speck_area)
    return _without_specks(region & ~holes, speck_area)


def _without_specks(mask: NDArray[np.bool_], area: int) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= area
    large[0] = False
    return np.asarray(large[labels], dtype=np.bool_)


def _load(files: PairFiles) -> _Loaded | _Broken:
    try:
        return _Loaded(
            files.key,
            _read(files.gt, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION),
            _read(files.reference, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION),
            _read(files.region, cv2.IMREAD_GRAYSCALE) > 127,
        )
    except (OSError, ValueError) as error:
        return _Broken(files.key, str(error))


def _read(path: Path, flags: int) -> NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise ValueError(f"{path} is no image that can be decoded; ingest its folder again")
    if image.shape[:2] != (SIDE, SIDE):
        raise ValueError(
            f"{path} is {image.shape[1]}x{image.shape[0]} and not {SIDE}x{SIDE}; "
            "ingest its folder again"
        )
    return np.asarray(image, np.uint8)

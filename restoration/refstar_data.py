"""What the restorer is trained on: (I, I_LQ, I_ref, degraded I_ref, M), degraded on the fly by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_engine.degradation import DegradationSettings, degrade, detail_kept, preset
from dataset_engine.shards.prefetch import prefetch
from dataset_engine.shards.stream import example_at, example_seed
from models.inference import stack_images
from restoration.refsel_data import Samples
from restoration.refstar_config import FaceData

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FacePair:
    """Ground truth and reference of one person, uint8[H, W, 3], and what is known about them."""

    truth: Image
    reference: Image
    region: Mask | None
    """The ground truth's face region, bool[H, W], or None where nobody knows it."""
    mask: Mask | None
    """The reviewed M, bool[H, W], or None."""
    reference_region: Mask | None = None
    """The reference's face region, to which M grows where the input shows too little."""


class FacePairs(Protocol):
    """Pairs by number, of one split. A seed chooses what is left open, as which reference."""

    annotated: bool
    """Whether every pair has a mask and face regions."""

    def __len__(self) -> int: ...

    def pair(self, index: int, seed: int) -> FacePair:
        """The pair that `seed` makes of ground truth `index`."""


class ShardPairs:
    """The triplets of RefSel-HQ shards."""

    annotated = True

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def pair(self, index: int, seed: int) -> FacePair:
        """See `FacePairs`; a triplet leaves nothing open."""
        del seed
        sample = self._samples[index]
        return FacePair(
            sample.gt, sample.reference, sample.gt_region, sample.mask, sample.ref_region
        )


@dataclass(frozen=True, eq=False)
class Face:
    """One example at the size that the networks see: uint8[S, S, 3] and bool[S, S]."""

    truth: Image
    degraded: Image
    reference: Image
    degraded_reference: Image
    mask: Mask
    """The reviewed M with the severe rule applied; all false where there is none."""
    region: Mask
    """The ground truth's face region; all true where it is not known."""


MakeFace = Callable[[int, int], Face]
"""(number of a ground truth, seed) to an example, a function of both alone, from any thread."""
Practise = Callable[[Face, int], Face]
"""(an example, its position in the order of training) to what is learnt from in its place."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors of several faces: images float32[B, 3, S, S] in [0, 1], masks float32[B, 1, S, S]."""

    truth: Tensor
    degraded: Tensor
    reference: Tensor
    degraded_reference: Tensor
    mask: Tensor
    region: Tensor


class FaceMaker:
    """Examples for training and validation, each a function of (number, seed)."""

    def __init__(self, pairs: FacePairs, data: FaceData, seed: int) -> None:
        self._pairs, self._data, self._seed = pairs, data, seed
        self._degradation = preset(data.degradation)
        kept = len(pairs) * data.variants
        # Bounded: each example is kept once, and there are no others.
        self._kept: Callable[[int, int], Face] = lru_cache(maxsize=kept)(self._make)

    def __call__(self, index: int, seed: int) -> Face:
        """The example that `seed` makes of ground truth `index`."""
        variants = self._data.variants
        if variants:
            face = self._kept(index, example_seed(self._seed, seed % variants, index))
        else:
            face = self._make(index, seed)
        flip, clean = np.random.default_rng([seed, 3]).random(2)
        if clean < self._data.clean:
            face = replace(face, degraded=face.truth)
        return _mirrored(face) if flip < self._data.flip else face

    def _make(self, index: int, seed: int) -> Face:
        pair = self._pairs.pair(index, seed)
        return make_face(pair, seed, self._degradation, self._data.size)


def make_face(pair: FacePair, seed: int, degradation: DegradationSettings, size: int) -> Face:
    """Degrade both photographs of a pair at their own size, then shrink everything by area.

    Severe rule (paper, "Data Engine"): where I_LQ shows too little of the face's detail, M becomes
    the reference's whole face region.

    Args:
        pair: as the source gives it.
        seed: of both degradations.
        degradation: what to draw from, and the threshold of "severe".
        size: side of the result, px.
    """
    degraded = degrade(pair.truth, example_seed(seed, 0, 0), degradation).image
    degraded_reference = degrade(pair.reference, example_seed(seed, 0, 1), degradation).image
    mask = np.zeros(pair.truth.shape[:2], np.bool_) if pair.mask is None else pair.mask
    if pair.region is not None and pair.reference_region is not None and pair.region.any():
        kept = detail_kept(pair.truth, degraded, pair.region)
        mask = pair.reference_region if kept < degradation.severe_threshold else mask
    region = np.ones(mask.shape, np.bool_) if pair.region is None else pair.region
    return Face(
        shrunk(pair.truth, size),
        shrunk(degraded, size),
        shrunk(pair.reference, size),
        shrunk(degraded_reference, size),
        _shrunk_mask(mask, size),
        _shrunk_mask(region, size),
    )


def shrunk(image: Image, size: int) -> Image:
    """An image at `size` x `size`, each pixel the mean of those that it covers."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk_mask(mask: Mask, size: int) -> Mask:
    return shrunk(mask.astype(np.uint8) * 255, size) > 127


def _mirrored(face: Face) -> Face:
    return Face(*(np.ascontiguousarray(part[:, ::-1]) for part in vars(face).values()))


def stack_faces(faces: Sequence[Face], device: torch.device) -> Batch:
    """Tensors of several faces, on `device`."""
    images = (
        stack_images([getattr(face, name) for face in faces]).contiguous().to(device)
        for name in ("truth", "degraded", "reference", "degraded_reference")
    )
    masks = (
        torch.from_numpy(np.stack([getattr(face, name) for face in faces])).to(device)
        for name in ("mask", "region")
    )
    return Batch(*images, *(mask[:, None].float() for mask in masks))


def training_batches(
    maker: MakeFace,
    count: int,
    seed: int,
    numbers: range,
    size: int,
    *,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    device: torch.device,
    practise: Practise | None = None,
) -> Iterator[Batch]:
    """The batches with these numbers, each a function of (seed, its number, the process).

    Several processes together get the faces that one process with as many times the batch gets.

    Args:
        maker: makes the examples.
        count: how many ground truths there are.
        seed: of order, references and degradations.
        numbers: of batches; a resumed run begins at the first one that it has not learnt from.
        size: faces a batch and process.
        process: number of this process.
        processes: how many there are.
        workers: threads that make examples ahead; 0 makes them when they are asked for.
        device: where the tensors go.
        practise: changes examples by their position; a function of both alone.
    """
    positions = (
        (number * processes + process) * size + place for number in numbers for place in range(size)
    )

    def load(position: int) -> Face:
        epoch, index = example_at(position, count, seed)
        face = maker(index, example_seed(seed, epoch, index))
        return face if practise is None else practise(face, position)

    gathered: list[Face] = []
    for face in prefetch(load, positions, workers=workers, ahead=2 * size):
        gathered.append(face)
        if len(gathered) == size:
            yield stack_faces(gathered, device)
            gathered = []

"""What RefSel is trained and measured on: (I_LQ, I_ref, M), degraded on the fly by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_engine.degradation import DegradationSettings, degrade, detail_kept
from dataset_engine.shards import Scenario, scenarios
from dataset_engine.shards.augmentation import (
    AugmentationSettings,
    PairAugmentation,
    TrainingPair,
    shrink,
)
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.shards.stream import example_seed
from models.inference import stack_images


class Samples(Protocol):
    """Triplets by number, all of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> RefSelSample: ...


@dataclass(frozen=True)
class Degraded:
    """What a step needs: `pair.first` is I_LQ, and `pair.mask` has the severe rule applied."""

    pair: TrainingPair
    detail_kept: float


@dataclass(frozen=True)
class Example(Degraded):
    """A degraded triplet, and what is told of it."""

    key: str
    scenarios: tuple[Scenario, ...]
    gt: NDArray[np.uint8]
    severe: bool


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: images float32[B, 3, S, S] in [0, 1], masks bool[B, S, S].

    `detail_kept`, float32[B] in [0, 1], is the share of the truth's facial detail in the input.
    """

    first: Tensor
    reference: Tensor
    mask: Tensor
    region: Tensor
    detail_kept: Tensor


def make_example(
    sample: RefSelSample,
    seed: int,
    degradation: DegradationSettings,
    augmentation: PairAugmentation | None = None,
    side: int | None = None,
    *,
    clean: bool = False,
) -> Example:
    """Degrade a triplet's ground truth, a function of the arguments alone.

    Severe rule (paper, "Data Engine"): where too little of the face's detail survives in I_LQ, M is
    replaced by the reference's whole face region, since nothing that could conflict can be seen.

    Args:
        sample: the triplet.
        seed: of the degradation and of what is mixed in.
        degradation: what to draw from, and the threshold of "severe".
        augmentation: mixes the images before they are degraded; None for measuring.
        side: to shrink to; None keeps the triplet's own size.
        clean: leave the ground truth as it is; it keeps all of its detail.
    """
    pair = TrainingPair(sample.gt, sample.reference, sample.mask, sample.ref_region)
    gt_region = sample.gt_region
    if augmentation is not None:
        pair = augmentation.mix(pair, seed)
        gt_region = sample.ref_region if pair.first is sample.reference else gt_region
    gt = pair.first
    lq = gt if clean else degrade(gt, seed, degradation).image
    kept = 1.0 if clean else detail_kept(gt, lq, gt_region)
    severe = kept < degradation.severe_threshold
    pair = replace(pair, first=lq, mask=pair.region if severe else pair.mask)
    if side is not None:
        pair = shrink(pair, side)
    return Example(pair, kept, sample.key, scenarios(sample.conflicts), gt, severe)


class ExampleMaker:
    """`make_example` for training, moved and relit; callable from several threads.

    Degrading a face takes about as long as a step on it. With `variants` a triplet is degraded in that
    many ways and no more, which are kept in memory, up to `kept_bytes`. What does not fit is made
    again, so that the examples do not depend on what is kept.
    """

    def __init__(
        self,
        samples: Samples,
        degradation: DegradationSettings,
        augmentation: AugmentationSettings,
        side: int | None,
        *,
        seed: int = 0,
        variants: int = 0,
        kept_bytes: int = 0,
    ) -> None:
        self._samples, self._degradation = samples, degradation
        self._augmentation, self._side = PairAugmentation(augmentation), side
        self._seed, self._variants = seed, variants
        self._kept: dict[tuple[int, int], Degraded] = {}
        self._room = kept_bytes if variants else 0

    def __call__(self, index: int, epoch: int, clean_share: float = 0.0) -> Degraded:
        """Triplet `index` as it is in `epoch`; with `clean_share` it is not degraded."""
        seed = example_seed(self._seed, epoch, index)
        variant = epoch % self._variants if self._variants else epoch
        clean = bool(np.random.default_rng([seed, 2]).random() < clean_share)
        example = (
            self._make(index, variant, clean=True) if clean else self._degraded(index, variant)
        )
        return Degraded(self._augmentation.move_and_light(example.pair, seed), example.detail_kept)

    def _degraded(self, index: int, variant: int) -> Degraded:
        kept = self._kept.get((index, variant))
        if kept is None:
            made = self._make(index, variant, clean=False)
            kept = Degraded(made.pair, made.detail_kept)  # without the ground truth at full size
            size = sum(array.nbytes for array in vars(made.pair).values())
            # The first are kept and not, as by lru_cache, the last: as each comes once an epoch, the
            # oldest would be dropped just before its turn.
            if size <= self._room:
                self._room -= size
                self._kept[index, variant] = kept
        return kept

    def _make(self, index: int, variant: int, *, clean: bool) -> Example:
        return make_example(
            self._samples[index],
            example_seed(self._seed, variant, index),
            self._degradation,
            self._augmentation,
            self._side,
            clean=clean,
        )


def stack_examples(examples: Sequence[Degraded], device: torch.device) -> Batch:
    """Tensors of several examples of one size, on `device`."""
    pairs = [example.pair for example in examples]
    return Batch(
        stack_images([pair.first for pair in pairs]).to(device),
        stack_images([pair.reference for pair in pairs]).to(device),
        torch.from_numpy(np.stack([pair.mask for pair in pairs])).to(device),
        torch.from_numpy(np.stack([pair.region for pair in pairs])).to(device),
        torch.tensor([example.detail_kept for example in examples], device=device),
    )

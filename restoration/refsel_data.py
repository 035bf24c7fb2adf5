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
from models.inference import stack_images


class Samples(Protocol):
    """Triplets by number, all of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> RefSelSample: ...


@dataclass(frozen=True)
class Example:
    """A degraded triplet; `pair.first` is I_LQ and `pair.mask` has the severe rule applied."""

    key: str
    scenarios: tuple[Scenario, ...]
    gt: NDArray[np.uint8]
    pair: TrainingPair
    detail_kept: float
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
        seed: of the degradation and the augmentation.
        degradation: what to draw from, and the threshold of "severe".
        augmentation: None for measuring.
        side: to shrink to before the augmentation; None keeps the triplet's own size.
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
    if augmentation is not None:
        pair = augmentation.move_and_light(pair, seed)
    return Example(sample.key, scenarios(sample.conflicts), gt, pair, kept, severe)


class ExampleMaker:
    """`make_example` for training, callable from several threads."""

    def __init__(
        self,
        samples: Samples,
        degradation: DegradationSettings,
        augmentation: AugmentationSettings,
        side: int | None,
    ) -> None:
        self._samples, self._degradation = samples, degradation
        self._augmentation, self._side = PairAugmentation(augmentation), side

    def __call__(self, index: int, seed: int, clean_share: float = 0.0) -> Example:
        """The example that `seed` makes of triplet `index`; with `clean_share` it is not degraded."""
        clean = bool(np.random.default_rng([seed, 2]).random() < clean_share)
        return make_example(
            self._samples[index],
            seed,
            self._degradation,
            self._augmentation,
            self._side,
            clean=clean,
        )


def stack_examples(examples: Sequence[Example], device: torch.device) -> Batch:
    """Tensors of several examples of one size, on `device`."""
    pairs = [example.pair for example in examples]
    return Batch(
        stack_images([pair.first for pair in pairs]).to(device),
        stack_images([pair.reference for pair in pairs]).to(device),
        torch.from_numpy(np.stack([pair.mask for pair in pairs])).to(device),
        torch.from_numpy(np.stack([pair.region for pair in pairs])).to(device),
        torch.tensor([example.detail_kept for example in examples], device=device),
    )

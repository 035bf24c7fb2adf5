"""The losses of RefSTAR: against the ground truth (Eq. 6), under the mask (Eq. 5), together (Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from models.discriminator import generator_loss

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance of two batches float[B, 3, H, W] in [0, 1], a scalar (models.perceptual)."""
Identity = Callable[[Tensor], Tensor]
"""Images float[B, 3, H, W] in [0, 1] to unit vectors float[B, D] (models.identity)."""


@dataclass(frozen=True)
class GroundTruthWeights:
    """The lambdas of Eq. 6. A term of weight 0 is not computed."""

    l1: float = 1.0
    perceptual: float = 1.0
    identity: float = 1.2
    adversarial: float = 0.2


@dataclass(frozen=True)
class CycleWeights:
    """The lambdas of Eq. 5. A term of weight 0 is not computed."""

    l1: float = 1.0
    perceptual: float = 0.8
    identity: float = 1.2


@dataclass(frozen=True)
class LossWeights:
    """The lambdas of Eq. 7, and those within its two terms."""

    ground_truth: float = 1.0
    cycle: float = 1.5
    in_ground_truth: GroundTruthWeights = field(default_factory=GroundTruthWeights)
    in_cycle: CycleWeights = field(default_factory=CycleWeights)

    def __post_init__(self) -> None:
        every = [self.ground_truth, self.cycle]
        every += [*vars(self.in_ground_truth).values(), *vars(self.in_cycle).values()]
        if min(every) < 0:
            raise ValueError(f"a loss has a negative weight: {self}")


@dataclass(frozen=True, eq=False)
class LossNetworks:
    """Frozen networks that some terms need; None where no term with a weight needs it."""

    perceptual: Perceptual | None = None
    identity: Identity | None = None


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and what it is made of."""

    total: Tensor
    """Scalar float32, to be differentiated."""
    terms: Mapping[str, Tensor]
    """Each term by name, detached and not weighted, to be logged."""


def ground_truth_loss(
    restored: Tensor,
    truth: Tensor,
    weights: GroundTruthWeights,
    networks: LossNetworks,
    logits: Tensor | None = None,
) -> Loss:
    """L_GT (Eq. 6).

    Args:
        restored: I_out, float[B, 3, H, W], near [0, 1].
        truth: I, float[B, 3, H, W] in [0, 1].
        weights: lambda 1, perc, id and adv.
        networks: those that a term with a weight needs.
        logits: of the discriminator on I_out; needed where adv has a weight.

    Raises:
        ValueError: a network or the logits are missing.
    """
    parts = _distances(restored, truth, weights, networks)
    if weights.adversarial:
        if logits is None:
            raise ValueError("the adversarial loss needs the discriminator's logits")
        parts["adversarial"] = (weights.adversarial, generator_loss(logits))
    return _sum(parts, restored)


def cycle_loss(
    rebuilt: Tensor,
    reference: Tensor,
    mask: Tensor,
    weights: CycleWeights,
    networks: LossNetworks,
) -> Loss:
    """L_cycle (Eq. 5): every distance is taken between masked images.

    Args:
        rebuilt: I_out^Ref, float[B, 3, H, W]: the degraded reference restored from I_out.
        reference: I^Ref, float[B, 3, H, W] in [0, 1].
        mask: M, float[B, 1, H, W] in [0, 1].
        weights: lambda 1, perc and id.
        networks: those that a term with a weight needs.

    Raises:
        ValueError: a network is missing.
    """
    return _sum(_distances(mask * rebuilt, mask * reference, weights, networks), rebuilt)


def total_loss(ground_truth: Loss, cycle: Loss | None, weights: LossWeights) -> Loss:
    """L (Eq. 7); without a cycle, as in Phases I and III, its first term alone."""
    total = weights.ground_truth * ground_truth.total
    terms = {f"gt/{name}": value for name, value in ground_truth.terms.items()}
    if cycle is not None:
        total = total + weights.cycle * cycle.total
        terms |= {f"cycle/{name}": value for name, value in cycle.terms.items()}
    return Loss(total, terms | {"total": total.detach()})


def _distances(
    images: Tensor,
    target: Tensor,
    weights: GroundTruthWeights | CycleWeights,
    networks: LossNetworks,
) -> dict[str, tuple[float, Tensor]]:
    images, target = images.float(), target.float()
    parts = {}
    if weights.l1:
        parts["l1"] = (weights.l1, functional.l1_loss(images, target))
    if weights.perceptual:
        if networks.perceptual is None:
            raise ValueError("the perceptual loss needs VGG19; give its weights or a weight of 0")
        parts["perceptual"] = (weights.perceptual, networks.perceptual(images, target))
    if weights.identity:
        if networks.identity is None:
            raise ValueError("the identity loss needs ArcFace; give its weights or a weight of 0")
        with torch.no_grad():
            wanted = networks.identity(target)
        same = functional.cosine_similarity(networks.identity(images), wanted, dim=1)
        parts["identity"] = (weights.identity, (1 - same).mean())
    return parts


def _sum(parts: Mapping[str, tuple[float, Tensor]], images: Tensor) -> Loss:
    total = images.new_zeros((), dtype=torch.float32)
    for weight, value in parts.values():
        total = total + weight * value
    return Loss(total, {name: value.detach() for name, (_, value) in parts.items()})

"""What a look at a reference hands to the restorer's self-attentions: banks, and the mask as logits.

Where the mask keeps nothing of a token, the token gets a logit of minus infinity: a zeroed key would
still take its share of the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

MIN_COVERAGE = 1e-6
"""Tokens of which the mask keeps less are masked: the logarithm's gradient must stay finite."""


class AttentionForm(StrEnum):
    """Which equation joins input and reference."""

    DECOUPLED = "decoupled"
    """Eq. 4, a softmax for each; the reference's term starts at zero."""
    CONCATENATED = "concatenated"
    """Eq. 3, one softmax over the keys of both: what the paper ablates against."""


@dataclass(frozen=True)
class ReferenceAttentionSettings:
    """How the reference is read.

    `position_sigmas`, one number a head and in tokens of the layer's own grid, adds
    -d^2 / (2 sigma^2) to the reference's logits, where d is the distance between query and key.
    It lets a network that was trained from scratch find the matching place on aligned faces, and
    what is found is weighted by the share of that place that the mask keeps: a softmax alone would
    fetch from far away what is not to be had near by. None leaves both out, as the paper does.
    """

    form: AttentionForm = AttentionForm.DECOUPLED
    position_sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.position_sigmas is not None and not all(s > 0 for s in self.position_sigmas):
            raise ValueError(f"position_sigmas must be above 0, not {self.position_sigmas}")


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """What one look at a batch of references hands to the self-attentions.

    It travels as an argument and is never kept in a module: with gradient checkpointing a layer runs
    again in the backward pass, when a module would already hold the next pass's reference.
    """

    banks: Mapping[str, Tensor]
    """float[B, L, C] by layer: what entered the ReferenceNet's self-attention of that name."""
    bias: Mapping[int, Tensor]
    """float32[B, 1 or heads, 1 or L, L] by L, added to the reference's logits."""
    present: Mapping[int, Tensor]
    """bool[B, 1, 1, 1] by L: whether the mask keeps anything at all."""
    near: Mapping[int, Tensor]
    """float32[B, heads, L, 1] by L, in [0, 1]: which share of the surroundings of a query the mask
    keeps, weighted as the distance weighs. Empty where distance does not count."""


def gather_features(
    banks: Mapping[str, Tensor],
    mask: Tensor,
    grid: tuple[int, int],
    settings: ReferenceAttentionSettings,
) -> ReferenceFeatures:
    """Bring the mask to the grid of every bank and turn it into logits.

    Args:
        banks: float[B, L, C] by layer; the layer's grid is `grid` divided by a whole number.
        mask: float[B, 1, H, W] in [0, 1], on the reference's pixels; may carry a gradient.
        grid: height and width of the latent.
        settings: whether distance counts.
    """
    bias, present, near = {}, {}, {}
    for tokens in {bank.shape[1] for bank in banks.values()}:
        factor = math.isqrt(grid[0] * grid[1] // tokens)
        height, width = grid[0] // factor, grid[1] // factor
        coverage = token_coverage(mask, height, width)
        kept = coverage > MIN_COVERAGE
        logits = torch.where(kept, coverage, 1.0).log().masked_fill(~kept, -math.inf)[:, None, None]
        if settings.position_sigmas is not None:
            distant = position_bias(height, width, settings.position_sigmas, mask.device)
            logits = logits + distant
            near[tokens] = distant.softmax(dim=3) @ coverage[:, None, :, None]
        bias[tokens], present[tokens] = logits, kept.any(dim=1)[:, None, None, None]
    return ReferenceFeatures(banks, bias, present, near)


def token_coverage(mask: Tensor, height: int, width: int) -> Tensor:
    """Which share of each token's pixels the mask keeps: float32[B, height * width] in [0, 1].

    A token that is half masked weighs half: its logit gets log(1 / 2).
    """
    return functional.adaptive_avg_pool2d(mask.float(), (height, width)).flatten(1)


def position_bias(
    height: int, width: int, sigmas: tuple[float, ...], device: torch.device
) -> Tensor:
    """-d^2 / (2 sigma^2) between all tokens of a grid: float32[1, heads, L, L], sigma in tokens."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    places = torch.stack([y.flatten(), x.flatten()], dim=1)
    squared = (places[:, None] - places[None]).square().sum(dim=-1)
    scale = torch.tensor(sigmas, device=device).square().mul(2)
    return -squared[None, None] / scale[None, :, None, None]

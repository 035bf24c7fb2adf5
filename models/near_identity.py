"""A start for a UNet from scratch at which pictures pass through it, instead of being mixed up.

A ReferenceNet is a copy of the UNet, and what it banks must still show the reference. From diffusers'
own start, a 3 x 3 convolution of random weights, hardly any of a token's pixels can be read off its
bank.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

BRANCH_GAIN = 0.5
"""Of what the attentions add to the stream."""
OUTPUT_GAIN = 0.3
"""Of the last convolution: the noise that is named begins small."""


@torch.no_grad()
def start_near_identity(unet: UNet2DConditionModel) -> None:
    """Set a fresh UNet's weights so that its stream carries the input's pixels, in place.

    Convolutions at both ends look at one token alone and keep lengths (semi-orthogonal), residual
    blocks begin at zero, projections of skips and attentions are orthogonal.
    """
    for name, module in unet.named_modules():
        part = name.rpartition(".")[2]
        if name in ("conv_in", "conv_out"):
            _look_at_one_token(module.weight, OUTPUT_GAIN if name == "conv_out" else 1.0)
        elif part == "conv2":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif part in ("conv_shortcut", "proj_in") or name.endswith(
            ("attn1.to_q", "attn1.to_k", "attn1.to_v")
        ):
            nn.init.orthogonal_(module.weight)
        elif part == "proj_out" or name.endswith("attn1.to_out.0"):
            nn.init.orthogonal_(module.weight, BRANCH_GAIN)


def _look_at_one_token(weight: Tensor, gain: float) -> None:
    middle = torch.empty(weight.shape[:2])
    nn.init.orthogonal_(middle, gain)
    weight.zero_()
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = middle

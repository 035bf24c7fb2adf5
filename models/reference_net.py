"""ReferenceNet: a copy of the UNet that looks at the masked reference and fills the banks.

It runs once on the latent of `M * I_ref`. What enters each of its self-attentions is kept for the
restorer's self-attention of the same name. Nothing after the last self-attention can matter, so
that part is cut off: it would cost time, and its parameters would never get a gradient.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from models.decoupled_attention import CrossProcessor, self_attention_layers
from models.lora import base_state


class BankingProcessor(AttnProcessor2_0):  # type: ignore[misc] # diffusers is untyped
    """diffusers' own self-attention, which leaves its input in the bank."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        bank: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Self-attention of hidden_states, float[B, L, C]."""
        put(bank, self.layer, hidden_states)
        out: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        return out


class LastBank(nn.Module):
    """What is left of the last transformer block: its first norm, whose output goes to the bank."""

    def __init__(self, layer: str, norm: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.norm1 = norm

    def forward(  # noqa: PLR0917 - a transformer block's signature
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002
        encoder_attention_mask: Tensor | None = None,  # noqa: ARG002
        timestep: Tensor | None = None,  # noqa: ARG002
        cross_attention_kwargs: dict[str, dict[str, Tensor]] | None = None,
        class_labels: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Hidden states float[B, L, C], unchanged."""
        bank = (cross_attention_kwargs or {}).get("bank")
        put(bank, self.layer, self.norm1(hidden_states))
        return hidden_states


def put(bank: dict[str, Tensor] | None, layer: str, states: Tensor) -> None:
    """Keep a layer's input, unless it is there already.

    With gradient checkpointing a layer runs again in the backward pass; the bank must keep the
    tensor that the loss was computed from, and not hold a second one.
    """
    if bank is not None:
        bank.setdefault(layer, states)


class ReferenceNet(nn.Module):
    """The UNet up to its last self-attention."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Take a UNet over; it cannot be used as one afterwards."""
        super().__init__()
        self.layers = self_attention_layers(unet)
        processors: dict[str, object] = {name: CrossProcessor() for name in unet.attn_processors}
        processors |= {f"{layer}.processor": BankingProcessor(layer) for layer in self.layers}
        unet.set_attn_processor(processors)
        _cut_after_last_self_attention(unet)
        self.unet = unet

    @classmethod
    def copy_of(cls, unet: UNet2DConditionModel) -> Self:
        """A ReferenceNet that starts from the weights of `unet` without its adapters."""
        with torch.device("meta"):
            twin = UNet2DConditionModel.from_config(copy.deepcopy(dict(unet.config)))
        state = {name: tensor.clone() for name, tensor in base_state(unet).items()}
        twin.load_state_dict(state, assign=True)
        return cls(twin.requires_grad_(True))

    def forward(self, latent: Tensor, timestep: int, prompt: Tensor) -> dict[str, Tensor]:
        """What enters each self-attention.

        Args:
            latent: float[B, C, H, W] of the masked reference.
            timestep: at which the UNet is told to be; 0 for a clean image.
            prompt: float[B, T, D], the conditioning of the cross-attentions, as the restorer's.

        Returns:
            float[B, L, C] by the self-attention's name.
        """
        bank: dict[str, Tensor] = {}
        self.unet(latent, timestep, prompt, cross_attention_kwargs={"bank": bank})
        return bank


def _cut_after_last_self_attention(unet: UNet2DConditionModel) -> None:
    attending = [n for n, block in enumerate(unet.up_blocks) if getattr(block, "attentions", None)]
    if not attending:
        raise ValueError("no up block of the UNet has a self-attention; give one that has")
    unet.up_blocks = unet.up_blocks[: attending[-1] + 1]
    block = unet.up_blocks[-1]
    block.upsamplers = None
    transformer = block.attentions[-1]
    position = len(transformer.transformer_blocks) - 1
    layer = (
        f"up_blocks.{attending[-1]}.attentions.{len(block.attentions) - 1}"
        f".transformer_blocks.{position}.attn1"
    )
    transformer.transformer_blocks[-1] = LastBank(layer, transformer.transformer_blocks[-1].norm1)
    transformer.proj_out = nn.Identity()
    unet.conv_norm_out = None
    unet.conv_out = nn.Identity()

"""How a self-attention of the restorer reads a reference: decoupled (Eq. 4) or concatenated (Eq. 3).

The queries are the restorer's own. Keys and values of the reference come from the bank that the
ReferenceNet filled for the same layer, through projections of this module's own.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from models.lora import effective_weight
from models.reference_features import AttentionForm, ReferenceAttentionSettings, ReferenceFeatures


class ReferenceAttention(nn.Module):
    """The reference's own projections beside one self-attention of the restorer.

    Keys and values start as the self-attention's own (its LoRA included) and have no bias. In the
    decoupled form the term goes through `to_out`, which starts at zero, before the self-attention's
    output projection; the concatenated form has none.
    """

    def __init__(self, attention: Attention, form: AttentionForm) -> None:
        super().__init__()
        self.to_k = _copied(attention.to_k)
        self.to_v = _copied(attention.to_v)
        self.to_out: nn.Linear | None = None
        if form is AttentionForm.DECOUPLED:
            width = self.to_v.out_features
            self.to_out = nn.Linear(
                width,
                width,
                bias=False,
                device=self.to_v.weight.device,
                dtype=self.to_v.weight.dtype,
            )
            nn.init.zeros_(self.to_out.weight)

    def decoupled(self, query: Tensor, layer: str, reference: ReferenceFeatures) -> Tensor:
        """Second term of Eq. 4; exactly zero where the mask keeps nothing.

        Args:
            query: float[B, heads, L, D].
            layer: name of the self-attention.
            reference: with a bank for the layer.

        Returns:
            float[B, L, heads * D].
        """
        if self.to_out is None:
            raise ValueError("a concatenated attention has no term of its own")
        bank = reference.banks[layer]
        present = reference.present[bank.shape[1]]
        bias = reference.bias[bank.shape[1]]
        # Where nothing is kept any finite logits do: what comes of them is thrown away.
        bias = torch.where(present, bias, 0.0).to(query.dtype)
        found = functional.scaled_dot_product_attention(
            query,
            split_heads(self.to_k(bank), query.shape[1]),
            split_heads(self.to_v(bank), query.shape[1]),
            attn_mask=bias.expand(-1, query.shape[1], query.shape[2], -1),
        )
        if reference.near:
            found = found * reference.near[bank.shape[1]].to(found.dtype)
        term: Tensor = self.to_out(merge_heads(torch.where(present, found, 0.0)))
        return term

    def concatenated(
        self, query: Tensor, key: Tensor, value: Tensor, layer: str, reference: ReferenceFeatures
    ) -> Tensor:
        """Eq. 3: float[B, L, heads * D] from query, key and value of float[B, heads, L, D]."""
        bank = reference.banks[layer]
        bias = reference.bias[bank.shape[1]].to(query.dtype)
        bias = bias.expand(-1, query.shape[1], query.shape[2], -1)
        heads = query.shape[1]
        return merge_heads(
            functional.scaled_dot_product_attention(
                query,
                torch.cat([key, split_heads(self.to_k(bank), heads)], dim=2),
                torch.cat([value, split_heads(self.to_v(bank), heads)], dim=2),
                attn_mask=functional.pad(bias, (key.shape[2], 0)),
            )
        )


class ReferenceProcessor:
    """diffusers' attention processor of a self-attention that may read a reference.

    Without one it computes what diffusers' own processor does. It holds the projections without
    registering them, so that the UNet's state dict stays that of the published UNet.
    """

    def __init__(self, layer: str, projections: ReferenceAttention) -> None:
        self.layer = layer
        self.projections = projections

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002 - diffusers' signature
        attention_mask: Tensor | None = None,  # noqa: ARG002
        reference: ReferenceFeatures | None = None,
    ) -> Tensor:
        """Self-attention of hidden_states, float[B, L, C], and what it finds in the reference."""
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        key = split_heads(attn.to_k(hidden_states), attn.heads)
        value = split_heads(attn.to_v(hidden_states), attn.heads)
        if reference is not None and self.projections.to_out is None:
            joined = self.projections.concatenated(query, key, value, self.layer, reference)
        else:
            joined = merge_heads(functional.scaled_dot_product_attention(query, key, value))
            if reference is not None:
                joined = joined + self.projections.decoupled(query, self.layer, reference)
        dropout, project = attn.to_out[1], attn.to_out[0]
        out: Tensor = dropout(project(joined))
        return out


class CrossProcessor(AttnProcessor2_0):  # type: ignore[misc] # diffusers is untyped
    """Attention to the prompt: diffusers' own, blind to what is meant for self-attention."""

    def __call__(  # noqa: PLR0917 - diffusers' signature
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        reference: object = None,  # noqa: ARG002
        bank: object = None,  # noqa: ARG002
    ) -> Tensor:
        """See diffusers."""
        out: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        return out


def self_attention_layers(unet: UNet2DConditionModel) -> list[str]:
    """Names of the UNet's self-attentions, in the order in which diffusers lists them.

    Raises:
        ValueError: there is none, or one of a kind that Stable Diffusion 1.x does not have.
    """
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    names = [name for name in names if name.endswith(".attn1")]
    for name in names:
        attention = unet.get_submodule(name)
        parts = (attention.group_norm, attention.norm_q, attention.norm_k, attention.spatial_norm)
        if any(part is not None for part in parts) or attention.is_cross_attention:
            raise ValueError(f"{name} is no plain self-attention; give a UNet of SD 1.x's kind")
    if not names:
        raise ValueError("the UNet has no self-attention for a reference to enter")
    return names


def module_key(layer: str) -> str:
    """A layer's name as a key of nn.ModuleDict, which allows no dots."""
    return layer.replace(".", "-")


def add_reference_attention(
    unet: UNet2DConditionModel, settings: ReferenceAttentionSettings
) -> nn.ModuleDict:
    """Give every self-attention of `unet` projections for a reference; they are returned.

    Raises:
        ValueError: the number of sigmas is not the number of heads, or the UNet is of another kind.
    """
    layers = self_attention_layers(unet)
    sigmas = settings.position_sigmas
    heads = {unet.get_submodule(layer).heads for layer in layers}
    if sigmas is not None and heads != {len(sigmas)}:
        raise ValueError(f"{len(sigmas)} position_sigmas for attentions of {sorted(heads)} heads")
    made = nn.ModuleDict()
    processors: dict[str, object] = {name: CrossProcessor() for name in unet.attn_processors}
    for layer in layers:
        projections = ReferenceAttention(unet.get_submodule(layer), settings.form)
        processors[f"{layer}.processor"] = ReferenceProcessor(layer, projections)
        made[module_key(layer)] = projections
    unet.set_attn_processor(processors)
    return made


def is_reference_output(name: str) -> bool:
    """Whether a restorer's parameter of this name is a reference's output projection, W of Eq. 4."""
    return name.startswith("reference_attention.") and ".to_out." in name


def split_heads(states: Tensor, heads: int) -> Tensor:
    """float[B, L, heads * D] to float[B, heads, L, D]."""
    batch, tokens, width = states.shape
    return states.reshape(batch, tokens, heads, width // heads).transpose(1, 2)


def merge_heads(states: Tensor) -> Tensor:
    """float[B, heads, L, D] to float[B, L, heads * D]."""
    return states.transpose(1, 2).flatten(2)


def _copied(projection: nn.Module) -> nn.Linear:
    weight = effective_weight(projection)
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight)
    return made

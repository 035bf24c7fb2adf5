"""The restoration model: one evaluation of a diffusion UNet, with or without a reference.

z = encode(I_LQ) is taken for the noisy latent of a fixed, high timestep; the UNet names the noise, and
the clean latent follows in closed form. A reference enters through the ReferenceNet's banks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.autoencoder import Autoencoder
from models.decoupled_attention import add_reference_attention
from models.lora import LoraSettings, add_unet_lora, is_adapter
from models.reference_features import (
    ReferenceAttentionSettings,
    ReferenceFeatures,
    gather_features,
)
from models.reference_net import ReferenceNet


class Phase(IntEnum):
    """The paper's three phases of training."""

    ONE = 1
    """One-step restoration without a reference: the adapters learn."""
    TWO = 2
    """ReferenceNet and reference attention learn, everything else is frozen."""
    THREE = 3
    """The restorer is frozen; RefSel learns through the mask."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Stable Diffusion's "scaled linear" betas: the square roots are evenly spaced."""

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def kept(self, timestep: int) -> float:
        """Share of the clean latent's variance that is left at `timestep` (alpha bar)."""
        first, last = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        kept = 1.0
        for step in range(timestep + 1):
            kept *= 1 - (first + (last - first) * step / (self.steps - 1)) ** 2
        return kept


@dataclass(frozen=True)
class RestorerConfig:
    """What the restorer is beside its backbone.

    `lora` None means that Phase I trains the UNet and the autoencoder themselves, as a network from
    scratch needs. `timestep` is where the degraded latent is said to lie, `reference_timestep` where
    the reference's does.
    """

    timestep: int = 999
    reference_timestep: int = 0
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    attention: ReferenceAttentionSettings = field(default_factory=ReferenceAttentionSettings)

    def __post_init__(self) -> None:
        for name in ("timestep", "reference_timestep"):
            if not 0 <= getattr(self, name) < self.schedule.steps:
                raise ValueError(
                    f"{name} must be in [0, {self.schedule.steps}), not {getattr(self, name)}"
                )


class Restorer(nn.Module):
    """RefSTAR's restoration model. It starts without a reference; `add_reference` begins Phase II."""

    def __init__(
        self, unet: UNet2DConditionModel, autoencoder: Autoencoder, config: RestorerConfig
    ) -> None:
        """Take the networks over and put adapters on them.

        Raises:
            ValueError: UNet and autoencoder do not fit each other or this way of restoring.
        """
        super().__init__()
        channels = (unet.config.in_channels, unet.config.out_channels)
        if channels != (autoencoder.latent_channels, autoencoder.latent_channels):
            raise ValueError(
                f"the UNet takes and gives {channels} channels, the autoencoder's latents have "
                f"{autoencoder.latent_channels}; give a UNet and a VAE of one model"
            )
        self.config = config
        self.unet = unet
        self.autoencoder = autoencoder
        self.reference_net: ReferenceNet | None = None
        self.reference_attention: nn.ModuleDict | None = None
        self.stride = autoencoder.factor * 2 ** (len(unet.config.block_out_channels) - 1)
        kept = config.schedule.kept(config.timestep)
        self.signal, self.noise = math.sqrt(kept), math.sqrt(1 - kept)
        if config.lora is not None:
            add_unet_lora(unet, config.lora)
            autoencoder.add_lora(config.lora)

    def add_reference(self) -> None:
        """Add a ReferenceNet and projections for it; with Eq. 4 the function does not change."""
        if self.reference_net is None:
            self.reference_net = ReferenceNet.copy_of(self.unet)
            self.reference_attention = add_reference_attention(self.unet, self.config.attention)

    def forward(
        self,
        degraded: Tensor,
        prompt: Tensor,
        reference: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        recompute: bool = False,
    ) -> Tensor:
        """Restore a batch.

        Args:
            degraded: float[B, 3, H, W] in [0, 1]; the sides divide by `stride`.
            prompt: float[B, T, D], the conditioning of the cross-attentions.
            reference: float[B, 3, H, W] in [0, 1], or None to restore without one.
            mask: float[B, 1, H, W] in [0, 1], which of the reference's pixels may be used; may carry
                a gradient. Given with a reference and only then.
            recompute: keep nothing for the backward pass and run the whole pass again in it. With it
                a loss over two passes needs no more memory than one of them.

        Returns:
            float[B, 3, H, W]; near [0, 1], not clamped.

        Raises:
            ValueError: shapes do not fit, or a reference is given before `add_reference`.
        """
        self._check(degraded, reference, mask)
        if recompute and torch.is_grad_enabled():
            restored: Tensor = checkpoint(
                self._restore, degraded, prompt, reference, mask, use_reentrant=False
            )
            return restored
        return self._restore(degraded, prompt, reference, mask)

    def _restore(
        self, degraded: Tensor, prompt: Tensor, reference: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        given = None
        if reference is not None and mask is not None:
            given = {"reference": self.look(reference, mask, prompt)}
        latent = self.autoencoder.encode(degraded)
        noise = self.unet(latent, self.config.timestep, prompt, cross_attention_kwargs=given).sample
        clean = (latent.float() - self.noise * noise.float()) / self.signal
        return self.autoencoder.decode(clean.to(latent.dtype))

    def look(self, reference: Tensor, mask: Tensor, prompt: Tensor) -> ReferenceFeatures:
        """Run the ReferenceNet on `mask * reference`; arguments as for `forward`."""
        if self.reference_net is None:
            raise ValueError("this restorer knows no reference yet; call add_reference first")
        latent = self.autoencoder.encode_reference(mask * reference)
        banks = self.reference_net(latent, self.config.reference_timestep, prompt)
        grid = (latent.shape[2], latent.shape[3])
        return gather_features(banks, mask, grid, self.config.attention)

    def _check(self, degraded: Tensor, reference: Tensor | None, mask: Tensor | None) -> None:
        batch, channels, height, width = degraded.shape
        if channels != 3 or height % self.stride or width % self.stride:
            raise ValueError(
                f"degraded must be [B, 3, H, W] with sides that divide by {self.stride}, "
                f"not {tuple(degraded.shape)}"
            )
        if (reference is None) != (mask is None):
            raise ValueError("reference and mask are given together or not at all")
        if reference is not None and reference.shape != degraded.shape:
            raise ValueError(
                f"reference {tuple(reference.shape)} must have the shape of degraded "
                f"{tuple(degraded.shape)}"
            )
        if mask is not None and mask.shape != (batch, 1, height, width):
            raise ValueError(f"mask must be {(batch, 1, height, width)}, not {tuple(mask.shape)}")

    def trainable_parameters(self, phase: Phase) -> dict[str, nn.Parameter]:
        """The parameters that learn in a phase, by name; in Phase III none of these do.

        Raises:
            ValueError: Phase II before `add_reference`.
        """
        if phase is Phase.TWO and self.reference_net is None:
            raise ValueError("Phase II needs a reference; call add_reference first")
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if self._learns(name, phase)
        }

    def _learns(self, name: str, phase: Phase) -> bool:
        if phase is Phase.ONE:
            own = name.startswith(("unet.", "autoencoder."))
            return own and (self.config.lora is None or is_adapter(name))
        return phase is Phase.TWO and name.startswith(("reference_net.", "reference_attention."))

    def prepare(self, phase: Phase) -> list[nn.Parameter]:
        """Let exactly the phase's parameters require a gradient, and return them."""
        chosen = self.trainable_parameters(phase)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in chosen)
        return list(chosen.values())

    def enable_gradient_checkpointing(self) -> None:
        """Keep block inputs alone for the backward pass; call it after `add_reference`."""
        self.unet.enable_gradient_checkpointing()
        self.autoencoder.enable_gradient_checkpointing()
        if self.reference_net is not None:
            self.reference_net.unet.enable_gradient_checkpointing()

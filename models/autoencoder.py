"""Between images and the latents that the UNet sees: a VAE, or a mere rearrangement of pixels."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from models.lora import LoraSettings, add_encoder_lora


class Autoencoder(nn.Module, ABC):
    """Images float[B, 3, H, W] in [0, 1] to latents float[B, C, H / factor, W / factor] and back.

    Degraded inputs and references are encoded apart, since the adapters of Phase I teach the
    encoder degraded inputs, while a reference is clean.
    """

    factor: int
    latent_channels: int

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Latent of a degraded input."""

    @abstractmethod
    def encode_reference(self, image: Tensor) -> Tensor:
        """Latent of a clean image."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Image of a latent; it may leave [0, 1] a little."""

    @abstractmethod
    def add_lora(self, settings: LoraSettings) -> None:
        """Put adapters on what `encode` runs."""

    @abstractmethod
    def enable_gradient_checkpointing(self) -> None:
        """Keep less for the backward pass and compute it again."""


class PixelUnshuffle(Autoencoder):
    """No network: `factor` x `factor` pixels become channels. For presets trained from scratch."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.latent_channels = 3 * factor * factor

    def encode(self, image: Tensor) -> Tensor:
        """float[B, 3 * factor ** 2, H / factor, W / factor] in [-1, 1]."""
        return functional.pixel_unshuffle(image * 2 - 1, self.factor)

    def encode_reference(self, image: Tensor) -> Tensor:
        """The same as `encode`."""
        return self.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        """The exact inverse of `encode`."""
        return functional.pixel_shuffle(latent, self.factor) / 2 + 0.5

    def add_lora(self, settings: LoraSettings) -> None:
        """Nothing here can learn."""

    def enable_gradient_checkpointing(self) -> None:
        """Nothing here is kept."""


class LatentAutoencoder(Autoencoder):
    """diffusers' AutoencoderKL. The mean of the posterior is taken, so that it is a function."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.latent_channels = vae.config.latent_channels
        # A second encoder, and not adapters switched off: with checkpointing the backward pass runs
        # an encoder again, and would find the switch in another position.
        self.clean: nn.ModuleDict | None = None

    def encode(self, image: Tensor) -> Tensor:
        """Posterior mean times the scaling factor."""
        return self._mean(self.vae.encoder, self.vae.quant_conv, image)

    def encode_reference(self, image: Tensor) -> Tensor:
        """The same through the encoder without adapters."""
        if self.clean is None:
            return self.encode(image)
        return self._mean(self.clean["encoder"], self.clean["quant_conv"], image)

    def _mean(self, encoder: nn.Module, quant_conv: nn.Module, image: Tensor) -> Tensor:
        moments = quant_conv(encoder(image * 2 - 1))
        mean: Tensor = moments.chunk(2, dim=1)[0] * self.vae.config.scaling_factor
        return mean

    def decode(self, latent: Tensor) -> Tensor:
        """See the base class."""
        image: Tensor = self.vae.decode(latent / self.vae.config.scaling_factor).sample
        return image / 2 + 0.5

    def add_lora(self, settings: LoraSettings) -> None:
        """Adapters on the encoder and `quant_conv`; the encoder as it was stays for references."""
        with torch.no_grad():
            self.clean = nn.ModuleDict(
                {
                    "encoder": copy.deepcopy(self.vae.encoder),
                    "quant_conv": copy.deepcopy(self.vae.quant_conv),
                }
            ).requires_grad_(False)
        add_encoder_lora(self.vae, settings)

    def enable_gradient_checkpointing(self) -> None:
        """For both encoders and the decoder."""
        self.vae.enable_gradient_checkpointing()
        if self.clean is not None:
            for name, part in self.clean["encoder"].named_modules():
                twin = self.vae.encoder.get_submodule(name)
                if hasattr(part, "gradient_checkpointing"):
                    part.gradient_checkpointing = True
                    part._gradient_checkpointing_func = twin._gradient_checkpointing_func

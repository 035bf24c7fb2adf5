"""A restorer small enough for tests: real classes, random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from models.autoencoder import LatentAutoencoder
from models.backbones import TinyBackbone
from models.decoupled_attention import is_reference_output
from models.lora import LoraSettings
from models.reference_features import ReferenceAttentionSettings
from models.restorer import Restorer, RestorerConfig

TINY = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8)

LORA = LoraSettings(rank=2)
PAPER = ReferenceAttentionSettings()


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=48,
        norm_num_groups=4,
        scaling_factor=0.5,
    )


@pytest.fixture
def make_restorer() -> Callable[..., Restorer]:
    """Restorers of 32 px; `vae` puts a real VAE in place of the rearranged pixels."""

    def make(
        *,
        vae: bool = False,
        lora: LoraSettings | None = LORA,
        attention: ReferenceAttentionSettings = PAPER,
        seed: int = 0,
    ) -> Restorer:
        torch.manual_seed(seed)
        autoencoder = LatentAutoencoder(tiny_vae()) if vae else TINY.autoencoder()
        config = RestorerConfig(timestep=250, lora=lora, attention=attention)
        return Restorer(TINY.unet(), autoencoder, config)

    return make


@pytest.fixture
def wake() -> Callable[[Restorer], None]:
    """Give everything that starts at zero a random value, as training does."""

    def fill(restorer: Restorer) -> None:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in restorer.named_parameters():
            waits = ".lora_B." in name or name.endswith("conv2.weight")
            if (waits or is_reference_output(name)) and not parameter.any():
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.data.copy_(noise)

    return fill


@pytest.fixture
def faces() -> dict[str, Tensor]:
    """A batch of two: degraded, reference, mask (left half), prompt."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    return {
        "degraded": torch.rand(2, 3, 32, 32, generator=generator),
        "prompt": torch.randn(2, 3, 8, generator=generator),
        "reference": torch.rand(2, 3, 32, 32, generator=generator),
        "mask": mask,
    }

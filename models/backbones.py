"""Where a restorer's UNet, autoencoder and text encoder come from: a directory, or from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.autoencoder import Autoencoder, LatentAutoencoder, PixelUnshuffle
from models.near_identity import start_near_identity
from models.refsel import CheckpointError
from models.weights_file import fill, read_tensors, short

Model = TypeVar("Model", bound=nn.Module)
TEXT_PREFIX = "text_model."
"""How the published CLIP text encoders begin every name; newer transformers leave it out."""


@dataclass(frozen=True)
class TinyBackbone:
    """A small UNet on rearranged pixels, trained from scratch.

    Images of `image_size` px become a grid of `image_size / unshuffle` tokens, each level halves it
    and has self-attention. Every width divides by `heads` and by `groups`.
    """

    image_size: int = 64
    unshuffle: int = 4
    widths: tuple[int, ...] = (96, 192)
    heads: int = 4
    layers: int = 1
    groups: int = 16
    prompt_width: int = 32

    def unet(self) -> UNet2DConditionModel:
        """A UNet with random weights through which pictures pass (models.near_identity)."""
        channels = 3 * self.unshuffle**2
        unet = UNet2DConditionModel(
            sample_size=self.image_size // self.unshuffle,
            in_channels=channels,
            out_channels=channels,
            down_block_types=("CrossAttnDownBlock2D",) * len(self.widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(self.widths),
            block_out_channels=self.widths,
            layers_per_block=self.layers,
            norm_num_groups=self.groups,
            attention_head_dim=self.heads,
            cross_attention_dim=self.prompt_width,
        )
        start_near_identity(unet)
        return unet

    def autoencoder(self) -> Autoencoder:
        """The rearrangement of pixels that the UNet works on."""
        return PixelUnshuffle(self.unshuffle)

    def prompt(self) -> Tensor:
        """A prompt that says nothing, float[1, prompt_width]."""
        return torch.zeros(1, self.prompt_width)


def stable_diffusion_unet() -> UNet2DConditionModel:
    """The UNet of Stable Diffusion 1.5 and Arc2Face, with random weights: 859,520,964 parameters."""
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=8,
        cross_attention_dim=768,
    )


def stable_diffusion_vae() -> AutoencoderKL:
    """The VAE of Stable Diffusion 1.5, with random weights: 83,653,863 parameters."""
    return AutoencoderKL(
        sample_size=512,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )


def clip_text_encoder() -> CLIPTextModel:
    """CLIP ViT-L/14's text encoder, with random weights: 123,060,480 parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            projection_dim=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
        )
    )


def open_unet(folder: Path) -> UNet2DConditionModel:
    """Load a UNet from diffusers' files, complete or not at all, without asking the network.

    Raises:
        CheckpointError: a file is missing or broken, or weights and config do not fit.
    """
    return _open_diffusers(UNet2DConditionModel, folder)


def open_vae(folder: Path) -> LatentAutoencoder:
    """Load a VAE, as `open_unet` loads a UNet."""
    return LatentAutoencoder(_open_diffusers(AutoencoderKL, folder))


def _open_diffusers(kind: type[Model], folder: Path) -> Model:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder / 'config.json'} is missing; give a folder that diffusers wrote"
        )
    try:
        pretrained: Any = kind
        model, found = pretrained.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, torch_dtype=torch.float32
        )
    except Exception as error:
        raise CheckpointError(
            f"{folder} cannot be loaded as {kind.__name__} ({short(error)}); "
            "give the folder of the right model, copied whole"
        ) from error
    missing, unknown = found["missing_keys"], found["unexpected_keys"]
    if missing or unknown:
        raise CheckpointError(
            f"{folder}: the weights do not fit config.json: {len(missing)} missing "
            f"({', '.join(list(missing)[:3])}), {len(unknown)} unknown; copy the folder whole"
        )
    # Files are mapped at any address, and products of unaligned matrices are rounded differently.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    opened: Model = model
    return opened


def open_text_encoder(folder: Path) -> CLIPTextModel:
    """Load a CLIP text encoder, from either way of naming its tensors.

    Raises:
        CheckpointError: a file is missing or broken, or weights and config do not fit.
    """
    try:
        config = CLIPTextConfig.from_json_file(folder / "config.json")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} cannot be read ({short(error)}); "
            "give the folder of a CLIP text encoder"
        ) from error
    path = folder / "model.safetensors"
    if not path.is_file():
        path = folder / "pytorch_model.bin"
    model = CLIPTextModel(config)
    own = {name.removeprefix(TEXT_PREFIX): name for name in model.state_dict()}
    state = {
        own.get(plain := name.removeprefix(TEXT_PREFIX), plain): tensor
        for name, tensor in read_tensors(path).items()
        if not name.endswith("position_ids")
    }
    fill(model, state, path)
    model.train(False)
    return model


def text_encoder_state(model: CLIPTextModel) -> dict[str, Tensor]:
    """The text encoder's tensors under their published names."""
    return {
        f"{TEXT_PREFIX}{name.removeprefix(TEXT_PREFIX)}": tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }

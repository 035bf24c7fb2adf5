"""Low-rank adapters on the UNet and on the autoencoder's encoder, in peft's own format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.refsel import CheckpointError

ADAPTER = "default"
WEIGHTS_NAME = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
"""How peft begins every name in a saved adapter."""


@dataclass(frozen=True)
class LoraSettings:
    """Where adapters go and how wide they are (OSEDiff's choice; the paper names none).

    A target is the last part of a module's name. `encoder_targets` are looked for in the encoder
    and in the convolution that follows it; the decoder stays frozen.
    """

    rank: int = 4
    alpha: float = 4.0
    unet_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "conv",
        "conv1",
        "conv2",
        "conv_in",
        "conv_shortcut",
        "conv_out",
        "proj_in",
        "proj_out",
        "ff.net.0.proj",
        "ff.net.2",
    )
    encoder_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "conv",
        "conv1",
        "conv2",
        "conv_in",
        "conv_shortcut",
        "conv_out",
        "quant_conv",
    )

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank {self.rank} and alpha {self.alpha} must be above 0")


def add_unet_lora(unet: nn.Module, settings: LoraSettings) -> None:
    """Wrap the UNet's targets in adapters; the function it computes does not change."""
    _add(unet, r"(.+\.)?", settings.unet_targets, settings)


def add_encoder_lora(vae: nn.Module, settings: LoraSettings) -> None:
    """Wrap the targets in `encoder` and `quant_conv` of a VAE; its function does not change."""
    _add(vae, r"(encoder\.(.+\.)?)?", settings.encoder_targets, settings)


def _add(model: nn.Module, prefix: str, targets: tuple[str, ...], settings: LoraSettings) -> None:
    pattern = f"{prefix}({'|'.join(re.escape(target) for target in targets)})"
    if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise ValueError(f"no module is called {', '.join(targets)}; name LoRA targets that exist")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        init_lora_weights="gaussian",
        target_modules=pattern,
    )
    inject_adapter_in_model(config, model, ADAPTER)


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as if there were no adapters: names and tensors of the wrapped model."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not is_adapter(name)
    }


def effective_weight(linear: nn.Module) -> Tensor:
    """A copy of a linear layer's weight, float[out, in], with what its adapter adds."""
    if isinstance(linear, LoraLayer):
        weight: Tensor = linear.get_base_layer().weight
        added: Tensor = linear.get_delta_weight(ADAPTER)
        return (weight + added.to(weight.dtype)).detach().clone()
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"a linear layer was expected, not {type(linear).__name__}")
    return linear.weight.detach().clone()


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, which peft alone can load."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    save_file(
        {f"{PEFT_PREFIX}{name}": tensor.contiguous().cpu() for name, tensor in state.items()},
        folder / WEIGHTS_NAME,
        metadata={"format": "pt"},
    )
    configs: dict[str, LoraConfig] = model.__dict__["peft_config"]
    configs[ADAPTER].save_pretrained(folder)


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Fill the adapters that `model` has from what `save_adapter`, or peft, wrote.

    Raises:
        CheckpointError: a file is missing, broken, or of adapters of another shape.
    """
    path = folder / WEIGHTS_NAME
    try:
        saved = load_file(path)
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); save the adapter again") from error
    state = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in saved.items()}
    wanted = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    wrong = [n for n in wanted if n not in state or state[n].shape != wanted[n].shape]
    if wrong or set(state) != set(wanted):
        raise CheckpointError(
            f"{path} does not fit: {len(wrong)} tensors missing or of another shape "
            f"({', '.join(wrong[:3])}), {len(set(state) - set(wanted))} unknown; "
            "use the base model, rank and targets that it was trained with"
        )
    with torch.no_grad():
        set_peft_model_state_dict(model, state, adapter_name=ADAPTER)

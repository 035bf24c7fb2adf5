"""Published weights: read from a file without running any code, and fit exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.refsel import CheckpointError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from torch's own format with tensors alone.

    Raises:
        CheckpointError: the file is missing, broken, or holds something else.
    """
    try:
        loaded: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read ({short(error)}); download or copy it again"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise CheckpointError(f"{path} is no state dict; give the file that holds tensors by name")
    return loaded


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load `state` into `model`; counters of batch normalisation may be absent.

    Raises:
        CheckpointError: a tensor is missing, of another shape, or unknown.
    """
    wanted = model.state_dict()
    wrong = [
        name
        for name in wanted
        if (name not in state and not name.endswith("num_batches_tracked"))
        or (name in state and state[name].shape != wanted[name].shape)
    ]
    unknown = sorted(set(state) - set(wanted))
    if wrong or unknown:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {len(wrong)} tensors missing or of "
            f"another shape ({', '.join(wrong[:3])}), {len(unknown)} unknown "
            f"({', '.join(unknown[:3])}); give the weights of this very network"
        )
    model.load_state_dict(dict(state), strict=False)


def short(error: Exception) -> str:
    """An error's text on one line, at most 300 characters."""
    return " ".join(str(error).split())[:300]

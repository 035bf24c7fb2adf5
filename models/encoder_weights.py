"""Starting weights for an encoder: from ImageNet where it can be reached, from a file, or none.

A machine without network must not wait for one, so a download has a deadline and its failure is an
answer (with a note to print), not an error. A file that was named and does not fit is an error.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import encoders as known_encoders
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor

IMAGENET = "imagenet"
TIMM = "tu-"
"""How segmentation-models-pytorch begins the names of the encoders that it takes from timm."""
DOWNLOAD_DEADLINE_S = 60.0
# Where a whole network was saved, the encoder's tensors carry one of these prefixes.
PREFIXES = ("unet.encoder.", "encoder.")


@dataclass(frozen=True)
class EncoderWeights:
    """A state dict for a three-channel encoder, or None, and a sentence saying what was found."""

    state: dict[str, Tensor] | None
    note: str


def load_encoder_weights(
    encoder: str, source: str, *, deadline_s: float = DOWNLOAD_DEADLINE_S
) -> EncoderWeights:
    """Find the weights that `source` ("imagenet" or a path to .pth or .safetensors) names.

    Raises:
        ValueError: the file is missing, unreadable or of another encoder.
    """
    if source == IMAGENET:
        return _imagenet(encoder, deadline_s)
    path = Path(source)
    try:
        loaded = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise ValueError(
            f"encoder weights {path} cannot be read ({error}); "
            "give a .safetensors or .pth state dict, 'imagenet', or none"
        ) from error
    state = _encoder_part(loaded)
    wanted = get_encoder(encoder, in_channels=3, weights=None).state_dict()
    # A classification head is no part of an encoder.
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    if encoder.startswith(TIMM) and not any(name.startswith("model.") for name in state):
        state = {f"model.{name}": tensor for name, tensor in state.items()}
    wrong = [
        name
        for name in wanted
        if (name not in state and not name.endswith("num_batches_tracked"))
        or (name in state and state[name].shape != wanted[name].shape)
    ]
    if wrong or not set(state) <= set(wanted):
        raise ValueError(
            f"encoder weights {path} do not fit {encoder}: "
            f"{len(wrong)} tensors missing or of another shape ({', '.join(wrong[:3])}), "
            f"{len(set(state) - set(wanted))} unknown; name the encoder they were made for"
        )
    return EncoderWeights(wanted | state, f"encoder {encoder}: weights from {path}")


def _encoder_part(loaded: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        part = {n.removeprefix(prefix): t for n, t in loaded.items() if n.startswith(prefix)}
        if part:
            return part
    return loaded


def _published(encoder: str) -> bool:
    if encoder.startswith(TIMM):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix(TIMM)))
    return IMAGENET in known_encoders.get(encoder, {}).get("pretrained_settings", {})


def _imagenet(encoder: str, deadline_s: float) -> EncoderWeights:
    if not _published(encoder):
        return EncoderWeights(
            None,
            f"encoder {encoder}: no ImageNet weights are published, starts from random weights",
        )
    answer: list[dict[str, Tensor] | Exception] = []

    def fetch() -> None:
        try:
            weights = True if encoder.startswith(TIMM) else IMAGENET
            answer.append(get_encoder(encoder, in_channels=3, weights=weights).state_dict())
        except Exception as error:
            answer.append(error)

    # A daemon thread, since name resolution and a stalled transfer cannot be interrupted.
    worker = threading.Thread(target=fetch, daemon=True, name="encoder-weights")
    worker.start()
    worker.join(deadline_s)
    found = answer[0] if answer else TimeoutError(f"no answer in {deadline_s:.0f} s")
    if isinstance(found, dict):
        return EncoderWeights(found, f"encoder {encoder}: ImageNet weights")
    cause = str(found).splitlines()[0][:200] if str(found) else type(found).__name__
    return EncoderWeights(
        None,
        f"encoder {encoder}: ImageNet weights are out of reach ({cause}); starts from random "
        "weights (give encoder_weights a path to use a file)",
    )

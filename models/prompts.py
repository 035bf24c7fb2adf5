"""What the cross-attentions are told about a face: nothing in particular, or who it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final, Protocol

from safetensors.torch import save_file
from torch import Tensor, nn

from models.arc2face import Arc2FacePrompt
from models.backbones import open_text_encoder, text_encoder_state
from models.identity import OnnxArcFace
from models.refsel import CheckpointError
from models.weights_file import read_tensors, short

PLAIN_NAME: Final = "prompt.safetensors"
PERSON_NAME: Final = "prompt.json"
ARCFACE_NAME: Final = "arcface.onnx"


class Prompt(Protocol):
    """A source of conditioning."""

    def of(self, references: Tensor) -> Tensor:
        """Conditioning float[B, T, D] for aligned references float[B, 3, S, S] in [0, 1]."""

    def save(self, folder: Path) -> None:
        """Write all that `open_prompt` needs into `folder`."""


class PlainPrompt(nn.Module):
    """One prompt for everybody: of a tiny preset, or of a Stable Diffusion that knows no people."""

    prompt: Tensor

    def __init__(self, prompt: Tensor) -> None:
        """Take the prompt, float[T, D]."""
        super().__init__()
        self.register_buffer("prompt", prompt)

    def of(self, references: Tensor) -> Tensor:
        """See `Prompt`; the references do not matter."""
        return self.prompt.expand(len(references), -1, -1).contiguous()

    def save(self, folder: Path) -> None:
        """See `Prompt`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"prompt": self.prompt.contiguous().cpu()}, folder / PLAIN_NAME)


class PersonPrompt(nn.Module):
    """Arc2Face's prompt of the person on the reference."""

    def __init__(self, arc2face: Arc2FacePrompt, arcface: OnnxArcFace) -> None:
        super().__init__()
        self.arc2face = arc2face
        self.arcface = arcface

    def of(self, references: Tensor) -> Tensor:
        """See `Prompt`."""
        prompt: Tensor = self.arc2face(self.arcface(references))
        return prompt

    def save(self, folder: Path) -> None:
        """See `Prompt`."""
        folder.mkdir(parents=True, exist_ok=True)
        encoder = self.arc2face.text_encoder
        save_file(text_encoder_state(encoder), folder / "model.safetensors")
        encoder.config.to_json_file(folder / "config.json")
        shutil.copyfile(self.arcface.path, folder / ARCFACE_NAME)
        said = {
            "input_ids": self.arc2face.input_ids[0].tolist(),
            "position": self.arc2face.position,
        }
        (folder / PERSON_NAME).write_text(json.dumps(said) + "\n", encoding="utf-8")


def open_prompt(folder: Path) -> PlainPrompt | PersonPrompt:
    """Load what a prompt's `save` wrote.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    if (folder / PLAIN_NAME).is_file():
        # A clone is aligned in memory, a mapped file is not, and products are rounded accordingly.
        return PlainPrompt(read_tensors(folder / PLAIN_NAME)["prompt"].clone())
    try:
        said = json.loads((folder / PERSON_NAME).read_text(encoding="utf-8"))
        tokens, position = said["input_ids"], said["position"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / PERSON_NAME} cannot be read ({short(error)}); save the pipeline again"
        ) from error
    encoder = Arc2FacePrompt(open_text_encoder(folder), tokens, position)
    return PersonPrompt(encoder, OnnxArcFace(folder / ARCFACE_NAME))

"""Arc2Face's conditioning: a prompt in which one word is a person.

"photo of a id person" goes through Arc2Face's own CLIP text encoder, with the embedding of the word
"id" replaced by the ArcFace embedding, padded with zeros to the encoder's width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from models.refsel import CheckpointError
from models.weights_file import short

PROMPT: Final = "photo of a id person"
ID_WORD: Final = "id"


class Arc2FacePrompt(nn.Module):
    """ArcFace embeddings to what the UNet's cross-attentions read. Frozen."""

    input_ids: Tensor

    def __init__(self, text_encoder: CLIPTextModel, input_ids: list[int], position: int) -> None:
        """Take a text encoder, the prompt's tokens, and at which of them the person stands."""
        super().__init__()
        self.text_encoder = text_encoder.requires_grad_(False).train(False)
        self.position = position
        self.register_buffer("input_ids", torch.tensor([input_ids]), persistent=False)

    def forward(self, embedding: Tensor) -> Tensor:
        """The prompt of each person.

        Args:
            embedding: float[B, 512], unit vectors.

        Returns:
            float[B, T, D], without gradient.
        """
        words = self.text_encoder.get_input_embeddings()

        def insert(_module: nn.Module, _args: object, found: Tensor) -> Tensor:
            padded = functional.pad(embedding, (0, found.shape[-1] - embedding.shape[1]))
            here = torch.arange(found.shape[1], device=found.device) == self.position
            return torch.where(here[None, :, None], padded[:, None].to(found.dtype), found)

        handle = words.register_forward_hook(insert)
        try:
            with torch.no_grad():
                states: Tensor = self.text_encoder(
                    input_ids=self.input_ids.expand(len(embedding), -1)
                ).last_hidden_state
        finally:
            handle.remove()
        return states


def prompt_tokens(folder: Path) -> tuple[list[int], int]:
    """Tokens of Arc2Face's prompt, padded to the tokenizer's length, and the place of "id".

    Raises:
        CheckpointError: there is no CLIP tokenizer in `folder`, or "id" is no word of its own in it.
    """
    tokenizer, tokens = _tokenise(folder, PROMPT)
    word = tokenizer.encode(ID_WORD, add_special_tokens=False)
    if len(word) != 1 or tokens.count(word[0]) != 1:
        raise CheckpointError(
            f'{folder}: "{ID_WORD}" is not one token of "{PROMPT}"; give CLIP\'s own tokenizer'
        )
    return tokens, tokens.index(word[0])


def plain_prompt(text_encoder: CLIPTextModel, folder: Path, text: str) -> Tensor:
    """One prompt for everybody, for a plain Stable Diffusion: float[T, D].

    Raises:
        CheckpointError: there is no CLIP tokenizer in `folder`.
    """
    _, tokens = _tokenise(folder, text)
    with torch.no_grad():
        states: Tensor = text_encoder(input_ids=torch.tensor([tokens])).last_hidden_state
    return states[0]


def _tokenise(folder: Path, text: str) -> tuple[CLIPTokenizer, list[int]]:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        tokens = tokenizer(
            text, truncation=True, padding="max_length", max_length=tokenizer.model_max_length
        ).input_ids
    except Exception as error:
        raise CheckpointError(
            f"{folder} holds no CLIP tokenizer ({short(error)}); give the folder with vocab.json"
        ) from error
    return tokenizer, list(tokens)

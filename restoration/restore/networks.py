"""A pipeline on batches of aligned faces of any size: masks, identities, restored faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference import resized
from models.pipeline import RefStarPipeline
from models.prompts import PersonPrompt

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Identify = Callable[[Tensor], Tensor]
"""Aligned float[B, 3, S, S] in [0, 1] to unit vectors float[B, 512]."""

ARCFACE_ABSENT: Final = "ArcFace's weights are absent: identity was not compared"


class FaceRestorer:
    """What restoring needs of a pipeline.

    Args:
        pipeline: with a RefSel.
        identify: tells who somebody is; None for the pipeline's own ArcFace where it has one.

    Raises:
        ValueError: the pipeline has no RefSel.
    """

    def __init__(self, pipeline: RefStarPipeline, identify: Identify | None = None) -> None:
        if pipeline.refsel is None:
            raise ValueError(
                "this pipeline has no RefSel, which selects what a reference may give: "
                "train it to Phase II, or save it with one"
            )
        self.pipeline = pipeline
        config = pipeline.restorer.unet.config
        self.side: int = config.sample_size * pipeline.restorer.autoencoder.factor
        """Side, px, of the faces that the networks were made for."""
        if identify is None and isinstance(pipeline.prompt, PersonPrompt):
            identify = pipeline.prompt.arcface
        self._identify = identify

    @property
    def knows_identities(self) -> bool:
        """Whether faces can be compared."""
        return self._identify is not None

    def stacked(self, faces: Sequence[Image]) -> Tensor:
        """Aligned faces, uint8 RGB [S, S, 3] of any sizes, as the networks take them."""
        levels = torch.from_numpy(np.stack([resized(face, self.side) for face in faces]))
        first = next(self.pipeline.restorer.unet.parameters())
        return (levels.to(first.device).permute(0, 3, 1, 2).float() / 255).to(first.dtype)

    def identities(self, faces: Sequence[Image]) -> list[Tensor | None]:
        """Who is on each aligned face, at its own size: unit vectors float[512], or None."""
        if self._identify is None:
            return [None] * len(faces)
        found: list[Tensor | None] = []
        for face in faces:
            levels = torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255
            found.append(self._identify(levels)[0].detach())
        return found

    def masks(self, degraded: Tensor, references: Tensor) -> Tensor:
        """RefSel's choice for each pair, float[B, 1, side, side]."""
        with torch.inference_mode():
            return self.pipeline.choose_mask(degraded, references)

    def restore(self, degraded: Tensor, references: Tensor, masks: Tensor) -> list[Image]:
        """Restored faces, uint8 RGB [side, side, 3] each."""
        restored = self.pipeline.restore(degraded, references, masks)
        levels = restored.float().clamp(0, 1).mul(255).round().to(torch.uint8)
        return list(levels.permute(0, 2, 3, 1).cpu().numpy())


def similarity(first: Tensor | None, second: Tensor | None) -> float | None:
    """The cosine of two unit vectors, or None where one is unknown."""
    return None if first is None or second is None else float(first @ second)

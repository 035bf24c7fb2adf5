"""From uint8 images to the probability of Eq. 1, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.optimisation import autocast
from models.refsel import RefSel


def stack_images(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Uint8[H, W, 3] RGB images as one float32[B, 3, H, W] in [0, 1], channels last in memory."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.to(torch.float32) / 255


def predict(
    model: RefSel,
    firsts: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.uint8]],
) -> NDArray[np.float32]:
    """Probability float32[B, H, W] in [0, 1] that each reference pixel is consistent.

    The model is expected in evaluation mode; images are uint8[H, W, 3] RGB of one size.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), autocast(device):
        p = model.probability(stack_images(firsts).to(device), stack_images(references).to(device))
    return np.asarray(p.cpu().numpy(), dtype=np.float32)

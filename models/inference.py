"""From uint8 images to RefSel's answer, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.optimisation import autocast
from models.refsel import CONFLICT, CONSISTENT, RefSel


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


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bring an image, uint8[H, W, 3], to uint8[side, side, 3] by the filters that `RefSel.forward` has.

    Done once where the image is decoded, it saves moving and filtering floats of the full size; the
    rounding to whole grey levels is all that differs.
    """
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    if height % side == 0 and width % side == 0:
        return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = functional.interpolate(
        planes, size=[side, side], mode="bilinear", align_corners=False, antialias=True
    )
    return np.asarray(small[0].permute(1, 2, 0).contiguous().numpy(), np.uint8)


def margins(
    model: RefSel,
    firsts: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.uint8]],
) -> NDArray[np.float32]:
    """By how much the logit of "consistent" exceeds that of "conflict": float32[B, H, W].

    Its sigmoid is `predict`'s probability. Images are uint8[H, W, 3] RGB of the model's working size,
    as `resized` makes them. A pair's margins do not depend on what else is in the batch, but its last
    bits may depend on the batch's length: libraries choose their algorithm by the shape.
    """
    device = next(model.parameters()).device
    both = torch.from_numpy(np.stack([*firsts, *references])).to(device).permute(0, 3, 1, 2)
    both = both.to(torch.float32, memory_format=torch.contiguous_format)
    first, reference = both.div_(255).chunk(2)
    with torch.inference_mode(), autocast(device):
        logits = model(first, reference).float()
    return np.asarray((logits[:, CONSISTENT] - logits[:, CONFLICT]).cpu().numpy(), dtype=np.float32)

"""What the encoder of RefSel sees of an image: relative colours, folded, and the fine relief."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RELIEF_CHANNELS = 2

# The middle of an aligned face, where skin is: centre and standard deviations as shares of the sides.
_MIDDLE = (0.50, 0.55)
_SPREAD = (0.15, 0.18)
_CONTRAST = 2.5  # brings differences from the mean colour to about unit variance

_RELIEF = (10.0, 5.0)  # bring the two bands of relief to unit size


def encoder_input(image: Tensor, fold: int) -> Tensor:
    """Colours relative to the face's own, squares of pixels as channels, and the relief in each.

    Relief tells stubble, wrinkles and noise from smooth skin: how far pixels lie from the mean of
    their square of 2 x 2, and how far such means lie from the mean of 2 x 2 of them.

    Args:
        image: float[B, 3, H, W] in [0, 1]; H and W divide by 4 and by `fold`.
        fold: side of the squares that become channels, px.

    Returns:
        float[B, 3 * fold^2 + 2, H / fold, W / fold], channels last in memory.
    """
    relative = _relative(image.contiguous())
    # pixel_unshuffle with its channels last in memory, in half of the time
    pixels = torch.eye(3 * fold**2, dtype=image.dtype, device=image.device)
    pixels = pixels.view(-1, 3, fold, fold).to(memory_format=torch.channels_last)
    squares = functional.conv2d(relative, pixels, stride=fold)
    relief = _relief(relative.mean(dim=1, keepdim=True))
    size = (squares.shape[-2], squares.shape[-1])
    if relief.shape[-2:] != size:
        relief = functional.interpolate(relief, size=size, mode="area")
    return torch.cat([squares, relief.contiguous(memory_format=torch.channels_last)], dim=1)


def _relief(level: Tensor) -> Tensor:
    """Both bands of relief, float[B, 2, H / 2, W / 2], of brightness float[B, 1, H, W]."""
    fine, square = _deviation(level)
    coarse, _ = _deviation(square)
    coarse = functional.interpolate(coarse, scale_factor=2, mode="nearest")
    bands = torch.cat([fine * _RELIEF[0], coarse * _RELIEF[1]], dim=1)
    return bands.clamp(max=5.0)  # a dark image's noise is no louder than relief


def _deviation(level: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance from the mean in squares of 2 x 2, and that mean, float[B, 1, H / 2, W / 2] each."""
    pixels = functional.pixel_unshuffle(level, 2)
    mean = pixels.mean(dim=1, keepdim=True)
    return (pixels - mean).abs().mean(dim=1, keepdim=True), mean


def _relative(image: Tensor) -> Tensor:
    """Colours relative to the mean of the face's middle, so that light and skin tone drop out.

    Exposure and the colour of light differ between two shots and are no conflict; what remains is what
    make-up, stubble and spots change (docs/refsel.md).
    """
    height, width = image.shape[-2:]
    x, y = (
        ((torch.arange(side, device=image.device) + 0.5) / side - middle) / spread
        for side, middle, spread in zip((width, height), _MIDDLE, _SPREAD, strict=True)
    )
    window = torch.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2))
    mean = torch.matmul(image.flatten(2), (window / window.sum()).flatten().to(image.dtype))
    # 0.02: an all but black image stays finite
    scale = (_CONTRAST / (mean + 0.02))[:, :, None, None]
    return image * scale - _CONTRAST

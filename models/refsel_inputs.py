"""What the encoder of RefSel sees of an image: relative colours, folded, and the fine relief."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# The middle of an aligned face, where skin is: centre and standard deviations as shares of the sides.
_MIDDLE = (0.50, 0.55)
_SPREAD = (0.15, 0.18)
_EVERY = 4

_SQUARE = 4  # side of the squares that relief is looked for in, px
RELIEF_CHANNELS = _SQUARE**2 - 1
_CONTRAST = 2.5  # brings differences from the mean colour to about unit variance
_FINE, _COARSE = 25.0, 12.5  # bring the two bands of relief to unit size
_LOUDEST = 5.0  # a dark image's noise is no louder than relief


def relative_colours(images: Sequence[Tensor]) -> Tensor:
    """Colours relative to the mean of the face's middle, so that light and skin tone drop out.

    Exposure and the colour of light differ between two shots and are no conflict; what remains is what
    make-up, stubble and spots change (docs/refsel.md).

    Args:
        images: N of float[B, 3, H, W] in [0, 1].

    Returns:
        float[N B, 3, H, W], 1 where the colour is the mean's.
    """
    joined = torch.cat(list(images))
    # every fourth pixel of every fourth row tells the mean as well
    sparse = joined[..., _EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY]
    height, width = sparse.shape[-2:]
    x, y = (
        ((torch.arange(side, device=joined.device) + 0.5) / side - middle) / spread
        for side, middle, spread in zip((width, height), _MIDDLE, _SPREAD, strict=True)
    )
    window = torch.exp(-0.5 * y**2)[:, None] * torch.exp(-0.5 * x**2)
    mean = (sparse * (window / window.sum())).sum(dim=(-2, -1), keepdim=True)
    # 0.02: an all but black image stays finite
    return joined.mul_((1 / (mean + 0.02)).to(joined.dtype))


class Stem(nn.Module):
    """Squares of `fold` x `fold` pixels as channels, and the relief in each; learned from there on.

    One convolution. At first it copies the pixels, as differences from the mean colour, and finds the
    details of squares of 4 x 4 px: how far pixels differ from their neighbours (the finer band), and
    squares of 2 x 2 from theirs. How large those details are, not their sign, tells stubble, wrinkles
    and noise from smooth skin.
    """

    def __init__(self, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.pixels = 3 * fold**2
        self.out_channels = self.pixels + RELIEF_CHANNELS
        side = max(fold, _SQUARE)
        margin = (side - fold + 1) // 2
        self.filters = nn.Conv2d(
            3,
            self.out_channels,
            side,
            stride=fold,
            padding=margin,
            padding_mode="replicate" if margin else "zeros",
        )
        weight = torch.zeros(self.filters.weight.shape)
        copies = torch.eye(self.pixels).view(-1, 3, fold, fold)
        weight[: self.pixels, :, margin : margin + fold, margin : margin + fold] = (
            copies * _CONTRAST
        )
        weight[self.pixels :, :, :_SQUARE, :_SQUARE] = _details()[:, None] / 3
        bias = torch.zeros(self.out_channels)
        bias[: self.pixels] = -_CONTRAST
        self.filters.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, relative: Tensor) -> Tensor:
        """float[B, out_channels, H / fold, W / fold], of what `relative_colours` gives."""
        found = self.filters(relative)
        height, width = (side // self.fold for side in relative.shape[-2:])
        found = found[..., :height, :width]
        pixels, relief = found.split([self.pixels, RELIEF_CHANNELS], dim=1)
        return torch.cat([pixels, relief.abs().clamp(max=_LOUDEST)], dim=1)


def _details() -> Tensor:
    """The Haar details of a square of 4 x 4 px, float[15, 4, 4]: 12 of the finer band, then 3."""
    kinds = torch.tensor([[[1.0, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 4
    fine = torch.zeros(2, 2, 3, _SQUARE, _SQUARE)
    for row in range(2):
        for column in range(2):
            fine[row, column, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = kinds
    coarse = functional.interpolate(kinds[:, None], scale_factor=2, mode="nearest")[:, 0] / 4
    return torch.cat([fine.flatten(0, 2) * _FINE, coarse * _COARSE])

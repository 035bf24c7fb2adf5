"""Real-ESRGAN's discriminator: a U-Net with spectral normalisation, one verdict a pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class UNetDiscriminator(nn.Module):
    """Three levels down, three up, skips added. 4,376,897 parameters at a width of 64."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            _normalised(width * 2**level, width * 2 ** (level + 1), 4, 2) for level in range(3)
        )
        self.up = nn.ModuleList(
            _normalised(width * 2 ** (level + 1), width * 2**level, 3, 1) for level in (2, 1, 0)
        )
        self.last = nn.ModuleList(_normalised(width, width, 3, 1) for _ in range(2))
        self.conv9 = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """How real each pixel looks.

        Args:
            images: float[B, 3, H, W] in [0, 1]; the sides divide by 8.

        Returns:
            Logits float[B, 1, H, W], above 0 for real.
        """
        x = _active(self.conv0(images))
        skips = []
        for down in self.down:
            skips.append(x)
            x = _active(down(x))
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = _active(up(x)) + skip
        for last in self.last:
            x = _active(last(x))
        logits: Tensor = self.conv9(x)
        return logits


def _normalised(width_in: int, width: int, size: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(width_in, width, size, stride=stride, padding=1, bias=False)
    return spectral_norm(convolution)


def _active(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def generator_loss(logits_of_restored: Tensor) -> Tensor:
    """What the restorer pays for looking unreal: a scalar (non-saturating GAN loss)."""
    return functional.softplus(-logits_of_restored.float()).mean()


def discriminator_loss(logits_of_real: Tensor, logits_of_restored: Tensor) -> Tensor:
    """Binary cross-entropy of the discriminator, the sum over both kinds: a scalar.

    The restored image must be detached before the discriminator sees it.
    """
    real = functional.softplus(-logits_of_real.float()).mean()
    restored = functional.softplus(logits_of_restored.float()).mean()
    return torch.add(real, restored)

"""ArcFace's backbone, layer for layer as insightface's `arcface_torch` publishes its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import Tensor, nn

from models.weights_file import fill, read_tensors

SIDE: Final = 112
"""Side of the face crop, px."""
WIDTH: Final = 512
"""Length of an embedding."""
BLOCKS: Final = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
"""Residual blocks in each of the four stages, by depth."""


class Block(nn.Module):
    """One residual block: normalised first, PReLU between two convolutions."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )
            if stride != 1 or width_in != width
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """float[B, width_in, H, W] to float[B, width, H / stride, W / stride]."""
        out: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return out + shortcut


class IResNet(nn.Module):
    """Face crops to embeddings that are not normalised yet."""

    def __init__(self, depth: int = 50) -> None:
        """Random weights.

        Raises:
            ValueError: no network of this depth is published.
        """
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be one of {sorted(BLOCKS)}, not {depth}")
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        widths = (64, 64, 128, 256, 512)
        for stage, count in enumerate(BLOCKS[depth], start=1):
            blocks = [
                Block(widths[stage - 1] if first else widths[stage], widths[stage], 1 + first)
                for first in [True] + [False] * (count - 1)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * (SIDE // 16) ** 2, WIDTH)
        self.features = nn.BatchNorm1d(WIDTH)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops.

        Args:
            crops: float[B, 3, 112, 112] RGB in [-1, 1].

        Returns:
            float[B, 512].
        """
        x = self.prelu(self.bn1(self.conv1(crops)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        out: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return out


def open_iresnet(path: Path, depth: int) -> IResNet:
    """An ArcFace with published weights (`backbone.pth` or safetensors), frozen, for evaluation.

    Raises:
        CheckpointError: the file cannot be read or is of another depth.
    """
    network = IResNet(depth)
    fill(network, read_tensors(path), path)
    return network.eval().requires_grad_(False)

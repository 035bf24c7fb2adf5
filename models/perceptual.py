"""Perceptual distance: VGG19 features before their ReLU, weighted as Real-ESRGAN publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.weights_file import fill, read_tensors

WIDTHS: Final = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Width and number of convolutions of each of VGG19's five stages."""
LAYER_WEIGHTS: Final = {
    "conv1_2": 0.1,
    "conv2_2": 0.1,
    "conv3_4": 1.0,
    "conv4_4": 1.0,
    "conv5_4": 1.0,
}
"""Weight of each layer's L1 distance."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19(nn.Module):
    """VGG19's convolutions, named as in torchvision's `features`. Frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Random weights: distances mean nothing until `open_vgg19` fills them."""
        super().__init__()
        layers: list[nn.Module] = []
        self.places: dict[int, str] = {}
        channels = 3
        for stage, (width, count) in enumerate(WIDTHS, start=1):
            for position in range(1, count + 1):
                self.places[len(layers)] = f"conv{stage}_{position}"
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        # Nothing after conv5_4 is read.
        self.features = nn.Sequential(*layers[:-2])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the layers of LAYER_WEIGHTS give, before ReLU.

        Args:
            images: float[B, 3, H, W] RGB in [0, 1], sides of 16 px at least.
        """
        x = (images - self.mean) / self.std
        found = {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            name = self.places.get(place)
            if name in LAYER_WEIGHTS:
                found[name] = x
        return found


class PerceptualDistance(nn.Module):
    """Weighted L1 between VGG19 features."""

    def __init__(self, network: VGG19) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """A scalar; `target` gets no gradient. Both float[B, 3, H, W] in [0, 1]."""
        with torch.no_grad():
            wanted = self.network(target)
        found = self.network(images)
        distances = [
            weight * functional.l1_loss(found[name].float(), wanted[name].float())
            for name, weight in LAYER_WEIGHTS.items()
        ]
        return torch.stack(distances).sum()


def open_vgg19(path: Path) -> VGG19:
    """VGG19 with torchvision's ImageNet weights (`vgg19-dcbb9e9d.pth`).

    Raises:
        CheckpointError: the file cannot be read or is of another network.
    """
    network = VGG19()
    wanted = set(network.state_dict())
    loaded = read_tensors(path)
    # The classifier is no part of a perceptual distance.
    state = {n: t for n, t in loaded.items() if n in wanted or not n.startswith("classifier.")}
    fill(network, state, path)
    return network.eval()

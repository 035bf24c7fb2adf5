"""Who is on a face: ArcFace embeddings, for conditioning (ONNX) and for the loss (PyTorch).

Both see the same crop. Aligned images have the eyes, nose and corners of the mouth at fixed places
(FFHQ's, `ALIGNED_POINTS`); ArcFace wants them at others on 112 x 112 px (`ARCFACE_POINTS`). One fixed
similarity brings the ones to the others, so nothing is detected, and the crop is differentiable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.iresnet import SIDE, WIDTH, IResNet
from models.refsel import CheckpointError
from models.weights_file import short

ALIGNED_SIDE: Final = 512
ALIGNED_POINTS: Final = (
    (192.98138, 239.94708),
    (318.90277, 240.19360),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
"""Eyes, nose, corners of the mouth on an aligned image of 512 px: (x, y), pixel centres whole."""
ARCFACE_POINTS: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""The same on ArcFace's crop of 112 px (insightface's template)."""


def arcface_crop(images: Tensor) -> Tensor:
    """The crop that ArcFace was trained on.

    Args:
        images: float[B, 3, S, S] RGB in [0, 1], aligned.

    Returns:
        float32[B, 3, 112, 112] in [-1, 1]; what lies outside of the image is black.
    """
    side = images.shape[-1]
    if images.shape[-2] != side:
        raise ValueError(f"aligned images are square, not {tuple(images.shape)}")
    inverse = _crop_to_aligned()
    scale = float(np.linalg.norm(inverse[:, 0])) * side / ALIGNED_SIDE
    small = images.float()
    if scale > 1:
        # Sampling alone would skip pixels: shrink to the crop's resolution first.
        size = round(side / scale)
        small = functional.interpolate(
            small, size=[size, size], mode="bilinear", align_corners=False, antialias=True
        )
    places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)
    source = places @ inverse[:, :2].T + inverse[:, 2]
    grid = torch.from_numpy((source + 0.5) / ALIGNED_SIDE * 2 - 1).to(small)
    crops = functional.grid_sample(
        small, grid.expand(len(small), -1, -1, -1), align_corners=False, padding_mode="zeros"
    )
    return crops * 2 - 1


def _crop_to_aligned() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The least-squares similarity from crop to aligned coordinates, float64[2, 3]."""
    crop, aligned = np.array(ARCFACE_POINTS), np.array(ALIGNED_POINTS)
    x, y = crop.T
    one, zero = np.ones(len(x)), np.zeros(len(x))
    # x' = a x - b y + c and y' = b x + a y + d
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(rows, aligned.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


class ArcFace(nn.Module):
    """Differentiable identity, for the loss; always in evaluation mode and frozen."""

    def __init__(self, network: IResNet) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ArcFace:
        """Stays in evaluation mode: batch statistics would change who somebody is."""
        del mode
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, S, S] aligned in [0, 1] to unit vectors float32[B, 512]."""
        return functional.normalize(self.network(arcface_crop(images)).float(), dim=1)


class OnnxArcFace:
    """insightface's ArcFace (`arcface.onnx` of Arc2Face, or antelopev2's `glintr100.onnx`)."""

    def __init__(self, path: Path) -> None:
        """Open the model on the CPU.

        Raises:
            CheckpointError: the file is missing, broken, or takes or gives something else.
        """
        self.path = path
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise CheckpointError(
                f"{path} cannot be opened as ONNX ({short(error)}); give insightface's ArcFace"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            len(inputs) != 1
            or list(inputs[0].shape[1:]) != [3, SIDE, SIDE]
            or list(outputs[0].shape[1:]) != [WIDTH]
        ):
            raise CheckpointError(
                f"{path} takes {[one.shape for one in inputs]} and gives {outputs[0].shape}, an "
                f"ArcFace [N, 3, {SIDE}, {SIDE}] and [N, {WIDTH}]; give insightface's ArcFace"
            )
        self._input = inputs[0].name

    def __call__(self, images: Tensor) -> Tensor:
        """float[B, 3, S, S] aligned in [0, 1] to unit vectors float32[B, 512], without gradient.

        Faces go in one by one, since some exports have a fixed batch of one.
        """
        crops = arcface_crop(images.detach()).cpu().numpy()
        found = [self._session.run(None, {self._input: crop[None]})[0] for crop in crops]
        embeddings = torch.from_numpy(np.concatenate(found)).float().to(images.device)
        return functional.normalize(embeddings, dim=1)

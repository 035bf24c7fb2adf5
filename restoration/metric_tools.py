"""The networks that metrics look through: LPIPS, FID's Inception, MUSIQ and ArcFace.

Their weights are published elsewhere and nothing is downloaded. A network whose weights are absent or
broken is no error here: it stays away, and says in one sentence why.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from dataset_engine.shards.files import file_sha256
from models.identity import OnnxArcFace
from models.refsel import CheckpointError
from models.weights_file import fill, read_tensors, short

Network = TypeVar("Network", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class MetricWeights:
    """Files of weights, under the names that they are published with."""

    alexnet: Path
    """torchvision's AlexNet, for LPIPS; its heads come with the package."""
    inception: Path
    """torch-fidelity's conversion of the Inception of 2015, for FID."""
    musiq: Path
    """pyiqa's MUSIQ, trained on KonIQ-10k."""
    arcface: Path
    """insightface's ArcFace as ONNX, for identity."""

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """All four in one folder."""
        return cls(
            alexnet=folder / "alexnet-owt-7be5be79.pth",
            inception=folder / "weights-inception-2015-12-05-6726825d.pth",
            musiq=folder / "musiq_koniq_ckpt-e95806b9.pth",
            arcface=folder / "arcface.onnx",
        )


@dataclass(frozen=True, eq=False)
class Tool(Generic[Network]):
    """A network, or why there is none."""

    network: Network | None
    missing: str = ""
    file: str = ""
    """The file's name; empty where there is no network."""
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Tools:
    """What `metrics.measure` looks through."""

    lpips: Tool[nn.Module]
    """Two float[B, 3, H, W] in [0, 1] to float[B]."""
    inception: Tool[nn.Module]
    """uint8[B, 3, H, W] to float[B, features]."""
    musiq: Tool[Callable[..., Tensor]]
    """float[B, 3, H, W] in [0, 1] to float[B]."""
    arcface: Tool[Callable[..., Tensor]]
    """float[B, 3, S, S] aligned in [0, 1] to unit vectors float[B, 512]."""
    device: torch.device

    def identity(self, images: Tensor) -> Tensor | None:
        """ArcFace's unit vectors float32[B, 512] of aligned images; None without its weights."""
        return None if self.arcface.network is None else self.arcface.network(images)


def open_tools(weights: MetricWeights, device: torch.device | str = "cpu") -> Tools:
    """Open what is there; whatever is absent says so in its `Tool`."""
    place = torch.device(device)
    return Tools(
        lpips=_open(weights.alexnet, lambda path: open_lpips(path).to(place)),
        inception=_open(weights.inception, lambda path: open_inception(path).to(place)),
        musiq=_open(weights.musiq, lambda path: _open_musiq(path, place)),
        arcface=_open(weights.arcface, OnnxArcFace),
        device=place,
    )


def _open(path: Path, opened: Callable[[Path], Network]) -> Tool[Network]:
    if not path.is_file():
        return Tool(None, f"weights absent: put {path.name} into {path.parent}")
    try:
        return Tool(opened(path), file=path.name, sha256=file_sha256(path))
    except (CheckpointError, ImportError, OSError) as error:
        return Tool(None, short(error))


class _Lpips(nn.Module):
    """The official LPIPS v0.1, for images in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        found: Tensor = self.network(images, target, normalize=True)
        return found.flatten()


def open_lpips(alexnet: Path) -> nn.Module:
    """LPIPS on this AlexNet: two float[B, 3, H, W] RGB in [0, 1] to float[B].

    Raises:
        CheckpointError: the file cannot be read or is of another network.
    """
    with _unwarned():
        from lpips import LPIPS  # noqa: PLC0415 - slow, and not needed without weights

        whole: Any = LPIPS(net="alex", pnet_rand=True, verbose=False)
    slices = whole.net
    places = {name.partition(".")[2]: name for name in slices.state_dict()}
    loaded = read_tensors(alexnet)
    # torchvision numbers its layers as LPIPS does; the classifier is no part of it.
    state = {
        places.get(name.removeprefix("features."), name): tensor
        for name, tensor in loaded.items()
        if not name.startswith("classifier.")
    }
    fill(slices, state, alexnet)
    return _Lpips(whole).eval().requires_grad_(False)


def open_inception(path: Path) -> nn.Module:
    """FID's Inception, 2,048 features, with torchmetrics' antialiased resize to 299 px.

    Raises:
        CheckpointError: the file cannot be read or is of another network.
    """
    read_tensors(path)  # so that a broken file is told from a mistake in the code
    try:
        with _unwarned():
            from torchmetrics.image.fid import NoTrainInceptionV3  # noqa: PLC0415

            network: nn.Module = NoTrainInceptionV3(
                name="inception-v3-compat",
                features_list=["2048"],
                feature_extractor_weights_path=str(path),
            )
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not torch-fidelity's Inception ({short(error)})"
        ) from error
    return network.requires_grad_(False)


def _open_musiq(path: Path, device: torch.device) -> Callable[..., Tensor]:
    """MUSIQ by pyiqa.

    Raises:
        ImportError: pyiqa is not installed.
        CheckpointError: the file does not fit.
    """
    try:
        pyiqa = importlib.import_module("pyiqa")
    except ImportError as error:
        raise ImportError(
            f"pyiqa is needed for MUSIQ ({error}): docs/metrics.md says how to install it"
        ) from error
    read_tensors_of_musiq(path)
    try:
        network = pyiqa.create_metric("musiq", device=device, pretrained_model_path=str(path))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path} is not pyiqa's MUSIQ ({short(error)})") from error
    return lambda images: network(images).flatten()


def read_tensors_of_musiq(path: Path) -> None:
    """See that the file holds tensors alone, since pyiqa would run what it holds.

    Raises:
        CheckpointError: it does not.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({short(error)})") from error


@contextmanager
def _unwarned() -> Any:  # noqa: ANN401
    """Libraries warn of each other's old ways while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""RefSel: which pixels of a reference may be transferred to the first image (Eq. 1).

The same U-Net serves twice. In the data engine its first input is the ground truth `I` (the
bootstrap U-Net that proposes masks); in RefSTAR it is the degraded `I_LQ`, and training starts from
the bootstrap weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.encoder_weights import EncoderWeights, load_encoder_weights

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT_VERSION = 1

STRIDE = 32

# The middle of an aligned face, where skin is: centre and standard deviations as shares of the sides.
_MIDDLE = (0.50, 0.55)
_SPREAD = (0.15, 0.18)
_CONTRAST = 2.5  # brings differences from the mean colour to about unit variance

# Bands of fine relief beside the colours of an image, each with the factor that brings it to unit size.
_RELIEF = (8.0, 5.0)

CONFLICT, CONSISTENT = 0, 1


class CheckpointError(ValueError):
    """A saved RefSel that cannot be used; the message names the file, the cause and the mend."""


class FirstInput(StrEnum):
    """What a RefSel was trained to compare the reference with."""

    GROUND_TRUTH = "ground_truth"
    DEGRADED = "degraded"


class Comparison(StrEnum):
    """How the two images meet.

    `STACKED` is Eq. 1 to the letter: six channels into one encoder. `SIAMESE` runs one three-channel
    encoder on each image and joins both features with their difference at every scale, which learns
    more from few pairs (docs/refsel.md).
    """

    STACKED = "stacked"
    SIAMESE = "siamese"


@dataclass(frozen=True)
class RefSelConfig:
    """Everything that is needed to rebuild a RefSel beside its weights.

    `working_size` is the side in pixels to which inputs are resized (None: their own size); logits
    are brought back, so one model serves any input size. The U-Net runs on squares of `fold` x `fold`
    pixels, each folded into channels: it sees every pixel at the cost of an image that is `fold`
    times smaller (docs/refsel.md).
    """

    encoder: str = "tu-resnet10t"
    encoder_weights: str | None = None
    decoder_channels: tuple[int, ...] = (128, 64, 48, 32, 16)
    working_size: int | None = 256
    fold: int = 1
    comparison: Comparison = Comparison.SIAMESE
    first_input: FirstInput = FirstInput.GROUND_TRUTH
    threshold: float = 0.5
    data_version: str = "unversioned"

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold must lie in (0, 1), not {self.threshold}")
        if len(self.decoder_channels) != 5 or min(self.decoder_channels) < 1:
            raise ValueError(f"decoder_channels must be 5 widths, not {self.decoder_channels}")
        if self.fold < 1:
            raise ValueError(f"fold must be at least 1, not {self.fold}")
        if self.working_size is not None and (
            self.working_size < 1 or self.working_size % self.stride
        ):
            raise ValueError(
                f"working_size must be a multiple of {self.stride}, not {self.working_size}"
            )

    @property
    def stride(self) -> int:
        """What the sides of an image must divide by, px."""
        return STRIDE * self.fold


class RefSel(nn.Module):
    """f_M of Eq. 1: a U-Net on [first, reference] with two classes (0 conflict, 1 consistent)."""

    def __init__(self, config: RefSelConfig, *, initialise_encoder: bool = True) -> None:
        """Build the network.

        With `initialise_encoder` the encoder takes `config.encoder_weights`; where they cannot be
        had it stays random, and `encoder_weights_note` says so for the caller to print.

        Raises:
            ValueError: the encoder's name is unknown, or a weights file does not fit it.
        """
        super().__init__()
        self.config = config
        siamese = config.comparison is Comparison.SIAMESE
        channels = (1 if siamese else 2) * (3 * config.fold**2 + len(_RELIEF))
        try:
            self.unet = smp.Unet(
                config.encoder,
                encoder_weights=None,
                in_channels=channels,
                classes=2,
                decoder_channels=config.decoder_channels,
            )
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"encoder {config.encoder!r} cannot be built ({error}); "
                "name one that segmentation-models-pytorch knows, such as resnet18"
            ) from error
        widths = self.unet.encoder.out_channels[1:] if siamese else []
        self.joins = nn.ModuleList(_join(width) for width in widths)
        self.encoder_weights_note = ""
        if initialise_encoder and config.encoder_weights is not None:
            self._take_encoder(load_encoder_weights(config.encoder, config.encoder_weights))

    def _take_encoder(self, found: EncoderWeights) -> None:
        self.encoder_weights_note = found.note
        if found.state is None:
            return
        wanted = self.unet.encoder.state_dict()
        state = {
            name: tensor if tensor.shape == wanted[name].shape else self._for_squares(tensor)
            for name, tensor in found.state.items()
        }
        self.unet.encoder.load_state_dict(state)

    def _for_squares(self, weight: Tensor) -> Tensor:
        """A first convolution made for RGB: a square's pixels share its weights, relief has none."""
        images = 1 if self.config.comparison is Comparison.SIAMESE else 2
        pixels = weight.repeat_interleave(self.config.fold**2, dim=1)
        relief = weight.new_zeros(weight.shape[0], len(_RELIEF), *weight.shape[2:])
        image = torch.cat([pixels / (images * self.config.fold**2), relief], dim=1)
        return image.repeat(1, images, 1, 1)

    def forward(self, first: Tensor, reference: Tensor) -> Tensor:
        """Logits of the two classes.

        Args:
            first: float[B, 3, H, W] in [0, 1], the ground truth or the degraded input.
            reference: float[B, 3, H, W] in [0, 1].

        Returns:
            float[B, 2, H, W]; channel 0 is conflict (or outside the face), channel 1 consistent.

        Raises:
            ValueError: the two inputs differ in shape or are not RGB, or the sides do not divide
                by the stride when the network runs at the input's own size.
        """
        if first.shape != reference.shape or first.ndim != 4 or first.shape[1] != 3:
            raise ValueError(
                f"both inputs must be [B, 3, H, W] alike, not {tuple(first.shape)} "
                f"and {tuple(reference.shape)}"
            )
        size = (first.shape[-2], first.shape[-1])
        side = self.config.working_size
        stride = self.config.stride
        if side is None and (size[0] % stride or size[1] % stride):
            raise ValueError(f"the sides must divide by {stride}, not {size}")
        if side is not None and size != (side, side):
            first, reference = _resized(first, side), _resized(reference, side)
        logits = self._run(_folded(_relative(torch.cat([first, reference])), self.config.fold))
        if logits.shape[-2:] == size:
            return logits
        # two channels of bfloat16, or channels last, would take five times as long
        logits = logits.float().contiguous(memory_format=torch.contiguous_format)
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def _run(self, both: Tensor) -> Tensor:
        """Logits [B, 2, h, w] of folded images [2 B, C, h, w], the first ones before the references."""
        if self.config.comparison is Comparison.STACKED:
            stacked: Tensor = self.unet(torch.cat(both.chunk(2), dim=1))
            return stacked
        both = both.contiguous(memory_format=torch.channels_last)
        # The decoder takes of the first entry its size alone.
        joined = [both]
        for join, features in zip(self.joins, self.unet.encoder(both)[1:], strict=True):
            first, reference = features.chunk(2)
            joined.append(join(torch.cat([first, reference, (first - reference).abs()], dim=1)))
        logits: Tensor = self.unet.segmentation_head(self.unet.decoder(joined))
        return logits

    def probability(self, first: Tensor, reference: Tensor) -> Tensor:
        """How surely each reference pixel is consistent, p of Eq. 1: float32[B, H, W] in [0, 1]."""
        return self.forward(first, reference).float().softmax(dim=1)[:, CONSISTENT]

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each replaced whole."""
        folder.mkdir(parents=True, exist_ok=True)
        config = dataclasses.asdict(self.config) | {"format": FORMAT_VERSION}
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
            weights, described = Path(scratch) / WEIGHTS_NAME, Path(scratch) / CONFIG_NAME
            save_file(state, weights)
            described.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            for written in (weights, described):
                with written.open("rb") as handle:
                    os.fsync(handle.fileno())
                written.replace(folder / written.name)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Load what `save_pretrained` wrote, in evaluation mode.

        Raises:
            CheckpointError: a file is missing, broken, from another format, or does not fit.
        """
        config = _read_config(folder / CONFIG_NAME)
        try:
            model = cls(config, initialise_encoder=False)
        except ValueError as error:
            raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error
        weights = folder / WEIGHTS_NAME
        try:
            model.load_state_dict(load_file(weights), strict=True)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{weights} is missing; give the folder that save_pretrained wrote"
            ) from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{weights} cannot be read ({error}); copy or train it again"
            ) from error
        except RuntimeError as error:
            raise CheckpointError(
                f"{weights} does not fit {folder / CONFIG_NAME} ({_first_lines(error)}); "
                "both files must come from the same save"
            ) from error
        return model.eval()


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
    mean = (image * (window / window.sum())).sum(dim=(-2, -1), keepdim=True)
    # 0.02: an all but black image stays finite
    return image * (_CONTRAST / (mean + 0.02)) - _CONTRAST


def _folded(image: Tensor, fold: int) -> Tensor:
    """Squares of pixels as channels, and how much fine relief is in each: stubble, wrinkles, noise.

    Args:
        image: float[B, 3, H, W] in relative colours.
        fold: side of a square, px.

    Returns:
        float[B, 3 * fold^2 + 2, H / fold, W / fold].
    """
    red, green, blue = image.chunk(3, dim=1)
    level = (red + green + blue).contiguous() / 3
    parts = [functional.pixel_unshuffle(image, fold)]
    for side, scale in zip((3, 5), _RELIEF, strict=True):
        smooth = _box(level, side)
        relief = functional.avg_pool2d((level - smooth).abs(), fold) * scale
        parts.append(relief.clamp(max=5.0))  # a dark image's noise is no louder than relief
        level = smooth
    return torch.cat(parts, dim=1)


def _box(image: Tensor, side: int) -> Tensor:
    """Means over squares of `side` x `side` around each pixel, at the border of what there is of them.

    What `avg_pool2d` gives, in a fifth of its time on a CPU.
    """
    for dim in (-2, -1):
        length, reach = image.shape[dim], side // 2
        margins = (0, 0, reach, reach) if dim == -2 else (reach, reach)
        padded = functional.pad(image, margins)
        image = padded.narrow(dim, 0, length).clone()
        for start in range(1, side):
            image += padded.narrow(dim, start, length)
        places = torch.arange(length, device=image.device)
        within = (places + reach).clamp(max=length - 1) - (places - reach).clamp(min=0) + 1
        image /= within[:, None] if dim == -2 else within
    return image


def _resized(image: Tensor, side: int) -> Tensor:
    """An image at `side` x `side`; by a whole number to one as training's examples are, by area."""
    if image.shape[-2] % side == 0 and image.shape[-1] % side == 0:
        return functional.interpolate(image, size=[side, side], mode="area")
    return functional.interpolate(
        image, size=[side, side], mode="bilinear", align_corners=False, antialias=True
    )


def _join(width: int) -> nn.Sequential:
    """Both images' features and their difference, 3 * `width` channels, to what the decoder takes."""
    return nn.Sequential(
        nn.Conv2d(3 * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


def _read_config(path: Path) -> RefSelConfig:
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing; give the folder that save_pretrained wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({error}); save the model again"
        ) from error
    if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is not a RefSel config of format {FORMAT_VERSION}; save it with this version"
        )
    known = {field.name for field in dataclasses.fields(RefSelConfig)}
    if set(fields) != known:
        raise CheckpointError(
            f"{path}: unknown {sorted(set(fields) - known)}, "
            f"missing {sorted(known - set(fields))}; save it with this version"
        )
    try:
        fields["decoder_channels"] = tuple(fields["decoder_channels"])
        fields["comparison"] = Comparison(fields["comparison"])
        fields["first_input"] = FirstInput(fields["first_input"])
        return RefSelConfig(**fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

"""RefSel: which pixels of a reference may be transferred to the first image (Eq. 1).

The same U-Net serves twice. In the data engine its first input is the ground truth `I` (the
bootstrap U-Net that proposes masks); in RefSTAR it is the degraded `I_LQ`, and training starts from
the bootstrap weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
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
from models.refsel_inputs import RELIEF_CHANNELS, Stem, relative_colours

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT_VERSION = 3

STRIDE = 32

CONFLICT, CONSISTENT = 0, 1

# RefSel estimates the logarithm of the detail that an input keeps, plus this: what lies about the
# severe threshold is spread wide, and what is clear is not.
_DETAIL_OFFSET = 0.05
# At first "severe" is a kept share under .15, told from .2 with nine tenths of certainty.
_SEVERE_AT = math.log(0.15 + _DETAIL_OFFSET)
_SEVERE_SLOPE = -10.0
# p stays off 0 and 1 by this much, so that its logarithms and their gradients are finite.
_MARGIN = 1e-5


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
    times smaller, and its maps are unfolded again (docs/refsel.md).
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


@dataclass(frozen=True)
class Judgement:
    """All that RefSel says of a batch; h and w are the working size."""

    logits: Tensor
    """float[B, 2, H, W], of the classes conflict (or outside the face) and consistent."""
    region: Tensor
    """float[B, 1, h, w], logits of the reference's face region."""
    detail: Tensor
    """float[B], `detail_target` of the share of detail that the first image keeps, estimated."""


def detail_target(kept: Tensor) -> Tensor:
    """What `Judgement.detail` is trained to be, of the share of detail kept, float[B] in [0, 1]."""
    return (kept + _DETAIL_OFFSET).log()


class RefSel(nn.Module):
    """f_M of Eq. 1: a U-Net on [first, reference] with two classes (0 conflict, 1 consistent).

    Its two maps say where the face region is and where something conflicts; one number says how much
    of its detail the first image keeps. In an image that keeps too little no conflict can be
    seen, and its mask is the whole face region (paper, "Data Engine"):

        p = region * (1 - (1 - severe) * conflict)
    """

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
        self.stem = Stem(config.fold)
        seen = self.stem.out_channels
        try:
            self.unet = smp.Unet(
                config.encoder,
                encoder_weights=None,
                in_channels=seen if siamese else 2 * seen,
                classes=2 * config.fold**2,
                decoder_channels=config.decoder_channels,
            )
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"encoder {config.encoder!r} cannot be built ({error}); "
                "name one that segmentation-models-pytorch knows, such as resnet18"
            ) from error
        widths = self.unet.encoder.out_channels[1:]
        self.joins = nn.ModuleList(_join(width, width) for width in widths if siamese)
        # smp's decoder sees nothing finer than the encoder's first stage, at half of the squares' grid
        self.finest = _join(seen, config.decoder_channels[-1], 3)
        self.detail = nn.Sequential(nn.Linear(sum(widths), 64), nn.ReLU(), nn.Linear(64, 1))
        self.severe_slope = nn.Parameter(torch.tensor(_SEVERE_SLOPE))
        self.severe_at = nn.Parameter(torch.tensor(_SEVERE_AT))
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
        relief = weight.new_zeros(weight.shape[0], RELIEF_CHANNELS, *weight.shape[2:])
        image = torch.cat([pixels / (images * self.config.fold**2), relief], dim=1)
        return image.repeat(1, images, 1, 1)

    def forward(self, first: Tensor, reference: Tensor) -> Tensor:
        """Logits of the two classes, float[B, 2, H, W]; takes and raises what `judge` does."""
        return self.judge(first, reference).logits

    def judge(self, first: Tensor, reference: Tensor) -> Judgement:
        """The mask's logits and what they are made of.

        Args:
            first: float[B, 3, H, W] in [0, 1], the ground truth or the degraded input.
            reference: float[B, 3, H, W] in [0, 1].

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
        maps, pooled = self.maps(relative_colours([first, reference]))
        detail = self.detail(pooled).float().flatten()
        severe = torch.sigmoid(self.severe_slope * (detail - self.severe_at))
        maps = maps.float()
        inside, conflict = maps.sigmoid().chunk(2, dim=1)
        p = inside * (1 - (1 - severe)[:, None, None, None] * conflict)
        p = p.clamp(_MARGIN, 1 - _MARGIN)
        margin = (p / (1 - p)).log()
        if margin.shape[-2:] != size:
            margin = functional.interpolate(margin, size=size, mode="bilinear", align_corners=False)
        return Judgement(
            margin * margin.new_tensor([-0.5, 0.5])[:, None, None], maps[:, :1], detail
        )

    def maps(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """The two maps [B, 2, H, W], and the mean features [B, C] of the first images' every scale.

        Args:
            both: relative colours of the first images, then of the references, [2 B, 3, H, W].
        """
        both = self.stem(both)
        siamese = self.config.comparison is Comparison.SIAMESE
        images = _both_and_difference(both)
        given = both if siamese else torch.cat(both.chunk(2), dim=1)
        features = self.unet.encoder(given)[1:]
        firsts, joined = features, features
        if siamese:
            firsts = [scale.chunk(2)[0] for scale in features]
            joined = [
                join(_both_and_difference(scale))
                for join, scale in zip(self.joins, features, strict=True)
            ]
        # The decoder takes of the first entry its size alone.
        decoded = self.unet.decoder([given, *joined]) + self.finest(images)
        maps = functional.pixel_shuffle(self.unet.segmentation_head(decoded), self.config.fold)
        return maps, torch.cat([first.mean(dim=(-2, -1)) for first in firsts], dim=1)

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
        config = read_config(folder / CONFIG_NAME)
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


def _resized(image: Tensor, side: int) -> Tensor:
    """An image at `side` x `side`; by a whole number to one as training's examples are, by area."""
    if image.shape[-2] % side == 0 and image.shape[-1] % side == 0:
        return functional.interpolate(image, size=[side, side], mode="area")
    return functional.interpolate(
        image, size=[side, side], mode="bilinear", align_corners=False, antialias=True
    )


def _both_and_difference(both: Tensor) -> Tensor:
    """[2 B, C, h, w] of the first images, then of the references, as [B, 3 C, h, w]."""
    first, reference = both.chunk(2)
    return torch.cat([first, reference, (first - reference).abs()], dim=1)


def _join(width: int, out: int, side: int = 1) -> nn.Sequential:
    """Both images' features and their difference, 3 * `width` channels, to what the decoder takes."""
    return nn.Sequential(
        nn.Conv2d(3 * width, out, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def read_config(path: Path) -> RefSelConfig:
    """The `config.json` of a saved model, without its weights.

    Raises:
        CheckpointError: the file is missing, broken or from another format.
    """
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

"""How far a restorer is: PSNR in the face of held-out identities, and pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dataset_engine.shards.stream import example_seed
from models.pipeline import RefStarPipeline
from models.restorer import Phase
from restoration.losses import Loss
from restoration.refstar_config import MaskSource, RefStarTraining
from restoration.refstar_data import Batch, FaceMaker, FacePairs, Image, stack_faces


@dataclass(frozen=True)
class Scores:
    """PSNR in the face region, in dB, the mean over validation faces."""

    phase_one: float
    """Without a reference."""
    full: float
    """With the reference and the mask; in Phase I the same as `phase_one`."""
    lq: float
    """Of the degraded input itself."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What the restorer makes of a batch: images float32[B, 3, S, S] in [0, 1]."""

    batch: Batch
    mask: Tensor
    """float32[B, 1, S, S]."""
    phase_one: Tensor
    full: Tensor


class Validation:
    """The same faces with the same degradations, every time."""

    def __init__(
        self, pairs: FacePairs, settings: RefStarTraining, phase: Phase, device: torch.device
    ) -> None:
        data = replace(settings.data, flip=0.0, clean=0.0, variants=1)
        self._maker = FaceMaker(pairs, data, settings.seed)
        count = min(settings.validation_faces, len(pairs))
        self._numbers = np.linspace(0, len(pairs), count, endpoint=False).astype(int).tolist()
        self._size = settings.phase(phase).batch_size
        self._phase, self._settings, self._device = phase, settings, device

    def show(self, pipeline: RefStarPipeline, count: int | None = None) -> Iterator[Shown]:
        """Restore the first `count` validation faces, in batches; None for all."""
        numbers = self._numbers[:count]
        for start in range(0, len(numbers), self._size):
            chosen = numbers[start : start + self._size]
            faces = [self._maker(index, example_seed(0, 0, index)) for index in chosen]
            yield self._restore(pipeline, stack_faces(faces, self._device))

    @torch.no_grad()
    def _restore(self, pipeline: RefStarPipeline, batch: Batch) -> Shown:
        prompt = pipeline.prompt.of(batch.reference)
        alone = pipeline.restorer(batch.degraded, prompt).float().clamp(0, 1)
        if self._phase is Phase.ONE:
            return Shown(batch, torch.zeros_like(batch.mask), alone, alone)
        annotated = self._settings.data.mask is MaskSource.ANNOTATED and self._phase is Phase.TWO
        mask = batch.mask if annotated else pipeline.choose_mask(batch.degraded, batch.reference)
        full = pipeline.restorer(batch.degraded, prompt, batch.reference, mask)
        return Shown(batch, mask, alone, full.float().clamp(0, 1))

    def measure(self, pipeline: RefStarPipeline) -> Scores:
        """Scores over all validation faces."""
        rows = [
            torch.stack(
                [
                    face_psnr(image, shown.batch.truth, shown.batch.region)
                    for image in (shown.phase_one, shown.full, shown.batch.degraded)
                ]
            )
            for shown in self.show(pipeline)
        ]
        return Scores(*torch.cat(rows, dim=1).mean(dim=1).tolist())

    def picture(self, pipeline: RefStarPipeline, count: int) -> Image | None:
        """Rows of input | reference | mask | Phase I | full | truth; None for no rows."""
        if not count:
            return None
        rows = []
        for shown in self.show(pipeline, count):
            batch = shown.batch
            columns = [
                batch.degraded,
                batch.reference,
                shown.mask.expand(-1, 3, -1, -1),
                shown.phase_one,
                shown.full,
                batch.truth,
            ]
            if self._phase is Phase.ONE:
                columns = [batch.degraded, shown.phase_one, batch.truth]
            rows += list(torch.cat(columns, dim=3))
        levels = torch.cat(rows, dim=1).mul(255).round().to(torch.uint8)
        return np.asarray(levels.permute(1, 2, 0).cpu().numpy(), np.uint8)


def face_psnr(image: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """PSNR in dB within the region, float32[B]; at most 100.

    Args:
        image: float[B, 3, H, W] in [0, 1].
        truth: the same.
        region: float[B, 1, H, W], 1 where a pixel counts; an empty region counts whole.
    """
    counted = torch.where(region.amax(dim=(1, 2, 3), keepdim=True) > 0, region, 1.0)
    squared = (counted * (image.float() - truth.float()).square()).sum(dim=(1, 2, 3))
    error = squared / (3 * counted.sum(dim=(1, 2, 3)))
    return -10 * error.clamp(min=1e-10).log10()


class Board:
    """TensorBoard of one phase; what a killed run wrote after step `start` is dropped."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = SummaryWriter(folder, purge_step=start + 1)

    def training(self, step: int, terms: dict[str, float], rate: float) -> None:
        """Each term of the loss, and the learning rate."""
        for name, value in terms.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        self._writer.add_scalar("train/learning rate", rate, step)

    def validation(self, step: int, scores: Scores, picture: Image | None) -> None:
        """PSNR of each column, and the pictures."""
        for name, value in vars(scores).items():
            self._writer.add_scalar(f"validation/face PSNR {name}", value, step)
        if picture is not None:
            columns = "input, reference, mask, Phase I, full, truth"
            self._writer.add_image(f"validation/{columns}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


def terms_of(losses: list[Loss]) -> dict[str, float]:
    """The mean of each term over several losses."""
    names = losses[0].terms
    return {name: sum(float(one.terms[name]) for one in losses) / len(losses) for name in names}

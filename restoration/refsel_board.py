"""What RefSel's training shows in TensorBoard: scores over time and pictures of the first triplets."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from dataset_engine.degradation import DegradationSettings
from dataset_engine.shards.reader import RefSelSample
from models.refsel import RefSel
from restoration.refsel_data import Samples
from restoration.refsel_evaluation import Evaluation, Judged, judge


class Board:
    """Writes one run's curves and pictures; what a killed run wrote after step `start` is dropped."""

    def __init__(self, folder: Path, start: int) -> None:
        self._writer = SummaryWriter(folder, purge_step=start + 1)

    def training(self, step: int, loss: float, rate: float) -> None:
        """The loss and learning rate of one step."""
        self._writer.add_scalar("train/loss", loss, step)
        self._writer.add_scalar("train/learning rate", rate, step)

    def validation(self, step: int, evaluation: Evaluation) -> None:
        """Every score that is defined, by scenario."""
        for row in (*evaluation.scenarios, evaluation.everything, evaluation.severe):
            for name, value in dataclasses.asdict(row.scores).items():
                if name != "pairs" and not math.isnan(value):
                    self._writer.add_scalar(f"{name}/{row.name}", value, step)

    def pictures(self, step: int, shown: list[NDArray[np.uint8]]) -> None:
        """Rows of GT, input, reference, M and p."""
        if shown:
            self._writer.add_image(
                "validation/GT, input, reference, M, p", np.vstack(shown), step, dataformats="HWC"
            )

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


def draw(judged: Judged) -> NDArray[np.uint8]:
    """GT, degraded input, reference, M over the reference and p as grey, side by side, halved."""
    example = judged.example
    grey = np.rint(judged.probability * 255).astype(np.uint8)[..., None]
    kept = np.where(example.pair.mask[..., None], example.pair.reference, 0).astype(np.uint8)
    row = (example.gt, example.pair.first, example.pair.reference, kept, np.repeat(grey, 3, axis=2))
    return np.hstack(row)[::2, ::2]


def draw_first(
    model: RefSel, samples: Samples, degradation: DegradationSettings, count: int
) -> list[NDArray[np.uint8]]:
    """`draw` of the first `count` triplets, degraded as in the evaluation."""
    return [draw(one) for one in judge(model, _First(samples, count), degradation, batch_size=4)]


class _First:
    """The first few triplets of a split."""

    def __init__(self, samples: Samples, count: int) -> None:
        self._samples, self._count = samples, min(count, len(samples))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> RefSelSample:
        return self._samples[index]

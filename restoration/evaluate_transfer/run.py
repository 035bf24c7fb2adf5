"""`engine evaluate-transfer`: a trained pipeline on people it has not seen: a report and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset_engine.shards import RefSelShards, Split
from dataset_engine.shards.files import write_whole
from models.pipeline import RefStarPipeline
from restoration.evaluate_transfer.cases import KnownOf, held_out_cases, strangers
from restoration.evaluate_transfer.conditions import Restored, restore_all
from restoration.evaluate_transfer.sheet import chosen_rows, draw_sheet
from restoration.evaluate_transfer.summary import Summary, summarise
from restoration.json_report import write_json
from restoration.refstar_config import FaceData

REPORT_NAME = "transfer.json"
SHEET_NAME = "transfer.png"


@dataclass(frozen=True)
class TransferTest:
    """Which faces of `split` are restored, `pairs` at most, and how many are shown."""

    split: Split = Split.TEST
    pairs: int = 250
    pictures: int = 8
    batch_size: int = 16
    seed: int = 0


@dataclass(frozen=True)
class TransferRun:
    """The scores, and where the picture is."""

    summary: Summary
    sheet: Path


def evaluate_transfer(
    model: Path,
    location: Path,
    out: Path,
    data: FaceData,
    *,
    test: TransferTest,
    known: KnownOf | None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> TransferRun:
    """Restore test pairs with and without their references, and with what should not help.

    Args:
        model: a pipeline of Phase II or III.
        location: RefSel-HQ shards.
        out: folder for ``transfer.json`` and ``transfer.png``; made if need be.
        data: size and degradation of the training.
        test: see `TransferTest`.
        known: what the source knows of a pair; None measures no marks and no glasses.
        progress: told how many pairs are done, and of how many.

    Raises:
        CheckpointError: the model is missing or broken.
        ShardError: the shards are missing or broken.
        ValueError: the model knows no reference, the split is empty or of one person, or `known` does
            not know a pair.
    """
    pipeline = RefStarPipeline.from_pretrained(model)
    if pipeline.restorer.reference_net is None:
        raise ValueError(f"{model} is of Phase I and reads no reference; give one of Phase 2 or 3")
    pipeline.restorer.eval().requires_grad_(False)
    samples = RefSelShards(location, test.split)
    if not len(samples):
        raise ValueError(f"{location} has no {test.split} pairs; give shards with that split")
    total = 2 * min(test.pairs, len(samples))
    cases = []
    for case in held_out_cases(samples, test.pairs, data, test.seed, known):
        cases.append(case)
        progress(len(cases), total)
    batches: list[Restored] = []
    for batch in restore_all(pipeline, cases, strangers(cases), test.batch_size):
        batches.append(batch)
        progress(len(cases) + min(len(batches) * test.batch_size, len(cases)), total)
    images = {
        name: np.concatenate([one.images[name] for one in batches]) for name in batches[0].images
    }
    summary = summarise(cases, images)
    out.mkdir(parents=True, exist_ok=True)
    sheet = draw_sheet(cases, images, chosen_rows(cases, test.pictures))
    write_whole(out / SHEET_NAME, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    about = {"model": str(model), "data": samples.version, "split": str(test.split)}
    write_json(out / REPORT_NAME, about | summary.plain())
    return TransferRun(summary, out / SHEET_NAME)

"""`engine train-refsel`: RefSel from an export, start to report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_engine.degradation import preset
from dataset_engine.shards import RefSelShards
from models.optimisation import core_left_to_data
from models.refsel import CONFIG_NAME, RefSel, read_config
from restoration.json_report import write_json
from restoration.refsel_config import RefSelTraining
from restoration.refsel_evaluation import Evaluation, evaluate
from restoration.refsel_training import train_refsel

REPORT_NAME = "report.json"


@dataclass(frozen=True)
class RefSelRun:
    """A trained RefSel and how it does on identities that it never saw.

    Attributes:
        best: folder of the model, for `RefSel.from_pretrained`.
        evaluation: on the test split.
        resumed_from: step at which this call went on.
        note: what the person should know about the encoder's weights, or "".
    """

    best: Path
    evaluation: Evaluation
    resumed_from: int
    note: str


def run_refsel(
    shards: Path,
    folder: Path,
    training: RefSelTraining,
    *,
    bootstrap: Path | None,
    progress: Callable[[int, int | None], None],
) -> RefSelRun:
    """Train on the export's train split, choose on validation, report on test.

    Args:
        shards: an export, or one of its versions.
        folder: gets the models, the training state and ``report.json``.
        training: see `RefSelTraining`.
        bootstrap: the bootstrap U-Net to start from; None starts from nothing.
        progress: told how many steps are done, and of how many.

    Raises:
        ShardError: the export is missing or broken, or leaks between its splits.
        ValueError: a split is empty.
    """
    train, validation, test = (
        RefSelShards(shards, split) for split in ("train", "validation", "test")
    )
    config = training.model if bootstrap is None else read_config(bootstrap / CONFIG_NAME)
    with ExitStack() as threads:
        # Else a step takes far longer than making its examples, or these are in memory soon.
        if config.fold > 1 and not training.variants:
            threads.enter_context(core_left_to_data())
        report = train_refsel(
            train,
            validation,
            folder,
            training,
            bootstrap=bootstrap,
            data_version=f"RefSel-HQ {train.version}",
            progress=lambda done: progress(done, training.steps),
        )
    model = RefSel.from_pretrained(report.best)
    evaluation = evaluate(
        model,
        test if len(test) else validation,
        preset(training.degradation),
        seed=training.seed,
        batch_size=training.batch_size,
    )
    write_report(folder / REPORT_NAME, evaluation)
    return RefSelRun(report.best, evaluation, report.resumed_from, report.note)


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write the evaluation as JSON, whole or not at all; a score that is not defined is null."""
    write_json(path, asdict(evaluation))

"""`engine evaluate-refsel`: a trained RefSel through the paper's test, into tables and a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dataset_engine.degradation import DegradationSettings, preset
from dataset_engine.shards import RefSelShards, Split
from dataset_engine.shards.prefetch import prefetch
from models.refsel import CheckpointError, FirstInput, RefSel
from restoration.evaluate_refsel.measures import Measured, measure
from restoration.evaluate_refsel.page import Shown, picture_of, write_page
from restoration.evaluate_refsel.protocol import (
    Case,
    LabelledSamples,
    choose_cases,
    severe_examples,
)
from restoration.evaluate_refsel.summary import Summary, summarise_test
from restoration.json_report import write_json
from restoration.refsel_answers import answers
from restoration.refsel_data import Example, make_example

REPORT_NAME = "evaluation.json"


@dataclass(frozen=True)
class ProtocolSettings:
    """The protocol: `per_scenario` pairs for each scenario (50 in the paper), degraded by `preset`.

    `severe` inputs are drawn besides until they are severe; `worst` pairs are shown in pictures.
    """

    per_scenario: int = 50
    severe: int = 50
    worst: int = 20
    preset: str = "paper"
    seed: int = 0
    batch_size: int = 8


@dataclass(frozen=True)
class EvaluationRun:
    """The scores, and where the page with them is."""

    summary: Summary
    page: Path


def evaluate_refsel(
    model_folder: Path,
    location: Path,
    out: Path,
    settings: ProtocolSettings,
    *,
    progress: Callable[[int, int | None], None],
) -> EvaluationRun:
    """Test a RefSel on the test identities of an export, and write ``index.html`` about it.

    Args:
        model_folder: what `RefSel.save_pretrained` wrote.
        location: an export, or one of its versions.
        out: folder for the page, its pictures and ``evaluation.json``; made if need be.
        settings: see `ProtocolSettings`.
        progress: told how many inputs are done, and of how many.

    Raises:
        CheckpointError: the model is missing, broken, or was trained on sharp inputs.
        ShardError: the export is missing or broken, or an identity is in two splits.
        ValueError: no test pair has a conflict, or the preset is unknown.
    """
    model = RefSel.from_pretrained(model_folder)
    if model.config.first_input is not FirstInput.DEGRADED:
        raise CheckpointError(
            f"{model_folder} compares the reference with the ground truth (it is a bootstrap "
            "U-Net): give a RefSel that `engine train-refsel` wrote"
        )
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    degradation = preset(settings.preset)
    samples = RefSelShards(location, Split.TEST)
    cases = choose_cases(samples, settings.per_scenario, settings.seed)
    threshold = model.config.threshold
    total = len(cases) + settings.severe + settings.worst

    measured: list[Measured] = []
    examples = _degraded(samples, cases, degradation)
    for case, (example, p) in zip(
        cases, answers(model, examples, settings.batch_size), strict=True
    ):
        measured.append(measure(example, p, threshold, case.scenario))
        progress(len(measured), total)

    severe: list[Measured] = []
    order = list(dict.fromkeys(case.index for case in cases))
    drawn = severe_examples(samples, order, degradation, settings.severe, settings.seed)
    for example, p in answers(model, drawn, settings.batch_size):
        severe.append(measure(example, p, threshold, None))
        progress(len(cases) + len(severe), total)

    summary = summarise_test(measured, severe, threshold)
    worst = sorted(range(len(cases)), key=lambda number: _accuracy(measured[number]))
    worst = worst[: settings.worst]
    again = _degraded(samples, [cases[number] for number in worst], degradation)
    shown = [
        Shown(measured[number], picture_of(example, p, threshold))
        for number, (example, p) in zip(
            worst, answers(model, again, settings.batch_size), strict=True
        )
    ]
    out.mkdir(parents=True, exist_ok=True)
    about = (
        f"{len(cases)} pairs of test identities, {samples.version} of the data, inputs degraded with "
        f"the {settings.preset} preset and seed {settings.seed}. The model was trained on "
        f"{model.config.data_version}."
    )
    page = write_page(out, summary, shown, about)
    write_json(out / REPORT_NAME, summary.to_dict() | {"about": about})
    progress(total, total)
    return EvaluationRun(summary, page)


def _degraded(
    samples: LabelledSamples, cases: Sequence[Case], degradation: DegradationSettings
) -> Iterator[Example]:
    def make(case: Case) -> Example:
        return make_example(samples[case.index], case.seed, degradation)

    return prefetch(make, cases, ahead=8)


def _accuracy(measured: Measured) -> float:
    accuracy = measured.confusion.accuracy
    return 1.0 if math.isnan(accuracy) else accuracy

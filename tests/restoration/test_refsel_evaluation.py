from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from dataset_engine.degradation import preset
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.taxonomy import Conflict
from models.refsel import CONFLICT, CONSISTENT, RefSel, RefSelConfig
from restoration.refsel_evaluation import BINS, _best_threshold, evaluate, judge, scenario_table

CONFLICTS = ((Conflict.MOUTH,), (Conflict.MOUTH, Conflict.BEARD), ())


class Three:
    """Two triplets whose reference is red in the lower half, a conflict there, and one without."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> RefSelSample:
        rng = np.random.default_rng(index)
        grey = cv2.resize(rng.integers(60, 200, (256, 256), dtype=np.uint8), (512, 512))
        gt = np.repeat(grey[..., None], 3, axis=2)
        region = np.zeros((512, 512), bool)
        region[64:448, 64:448] = True
        reference, mask = gt.copy(), region.copy()
        if CONFLICTS[index]:
            reference[256:] = (250, 0, 0)
            mask[256:] = False
        key = f"pair-{index}"
        return RefSelSample(gt, reference, mask, region, region, key, key, CONFLICTS[index])


class SeesRed(RefSel):
    """A stand-in for a trained network: red in the reference is a conflict."""

    def forward(self, first: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        red = reference[:, 0] - reference[:, 1]
        logits = torch.zeros(red.shape[0], 2, *red.shape[1:])
        logits[:, CONFLICT], logits[:, CONSISTENT] = red * 4, 1.0
        return logits


@pytest.fixture(scope="module")
def model() -> SeesRed:
    return SeesRed(RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8))).eval()


@pytest.fixture(scope="module")
def evaluation(model):
    from dataclasses import replace

    return evaluate(model, Three(), replace(preset("paper"), severe_threshold=0.0), batch_size=2)


def test_each_scenario_has_its_row_and_all_ones_beside_it(evaluation):
    assert [(row.name, row.scores.pairs) for row in evaluation.scenarios] == [
        ("mouth", 2),
        ("beard", 1),
    ]
    mouth = evaluation.scenarios[0]
    assert mouth.scores.accuracy == 1.0
    assert mouth.scores.conflict_recall == 1.0
    assert mouth.all_ones.accuracy == pytest.approx(0.5)
    assert mouth.all_ones.conflict_recall == 0.0
    assert evaluation.everything.scores.pairs == 3
    assert evaluation.severe.scores.pairs == 0
    assert evaluation.mean("accuracy") == 1.0


def test_the_threshold_that_suits_conflicts_best_is_found(evaluation):
    # p is .05 where it is red and .73 elsewhere: anything between is perfect.
    assert 0.04 < evaluation.best_threshold < 0.75


def test_of_thresholds_about_as_good_for_conflicts_the_most_accurate_is_taken():
    counts = np.zeros((2, BINS), np.int64)
    counts[0, [10, 150]] = 900, 100  # conflict
    counts[1, [100, 190]] = 105, 2000
    # above .75: IoU 1000 / 1105, 105 wrong; below .5: 900 / 1000, 100 wrong
    assert 0.05 < _best_threshold(counts) < 0.51
    counts[1, 100] = 50
    assert _best_threshold(counts) > 0.75
    assert _best_threshold(np.zeros((2, BINS), np.int64)) == 0.5


def test_severe_inputs_are_counted_as_whole_faces(model):
    from dataclasses import replace

    severe = evaluate(model, Three(), replace(preset("paper"), severe_threshold=1.0))
    assert severe.severe.scores.pairs == 3
    assert severe.severe.all_ones.accuracy == 1.0
    assert math.isnan(severe.everything.scores.conflict_recall)


def test_the_table_shows_every_number(evaluation):
    console = Console(width=140)
    with console.capture() as captured:
        console.print(scenario_table(evaluation, "RefSel"))
    text = captured.get()
    for word in ("mouth", "beard", "mean of scenarios", "severe inputs", "100.0", "50.0", "-"):
        assert word in text


def test_every_triplet_is_judged_once_and_in_order(model):
    seen: list[int] = []
    judged = list(judge(model, Three(), preset("paper"), batch_size=2, progress=seen.append))
    assert [one.example.key for one in judged] == ["pair-0", "pair-1", "pair-2"]
    assert seen == [2, 3]
    assert judged[0].probability.shape == (512, 512)

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from models.metrics import Scores
from restoration.refsel_evaluation import Evaluation, Row
from restoration.refsel_run import REPORT_NAME, write_report

NAN = math.nan
SOME = Scores(2, 0.75, 0.5, 1.0, 0.25, 0.25, 1.0)
NO_CONFLICTS = Scores(1, 0.75, 0.5, NAN, 0.0, 0.0, NAN)
NOTHING = Scores(0, NAN, NAN, NAN, NAN, NAN, NAN)


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        scenarios=(Row("mouth", SOME, SOME), Row("eyes", NO_CONFLICTS, SOME)),
        everything=Row("all pairs", SOME, SOME),
        severe=Row("severe inputs", NOTHING, NOTHING),
        threshold=0.5,
        best_threshold=0.4,
    )


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def test_a_score_that_is_not_defined_is_null(tmp_path: Path, evaluation: Evaluation):
    write_report(tmp_path / REPORT_NAME, evaluation)
    read = json.loads((tmp_path / REPORT_NAME).read_text(), parse_constant=no_constant)
    mouth, eyes = (row["scores"] for row in read["scenarios"])
    assert mouth["accuracy"] == 0.75
    assert eyes["conflict_recall"] is None
    assert eyes["conflict_precision"] == 0.0
    assert read["severe"]["scores"] == {"pairs": 0} | dict.fromkeys(
        ("accuracy", "iou", "conflict_iou", "conflict_precision", "conflict_recall")
    ) | {"conflict_recall_by_pair": None}
    assert (read["everything"]["name"], read["best_threshold"]) == ("all pairs", 0.4)


def test_a_write_that_breaks_off_leaves_the_report_before_it(
    tmp_path: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / REPORT_NAME
    write_report(path, evaluation)
    before = path.read_bytes()

    def full(descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, replace(evaluation, threshold=0.9))
    assert path.read_bytes() == before

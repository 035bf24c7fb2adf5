from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import restoration.ablation.run as ablation_run
from models.pipeline import RefStarPipeline
from models.reference_features import AttentionForm
from restoration.ablation.masked_faces import AsReviewed, restore_cases, with_row_masks
from restoration.ablation.measures import MEASURES, Measures, likeness, measure_row
from restoration.ablation.rows import Row, row_settings
from restoration.ablation.run import DONE_NAME, Budget, ablate
from restoration.ablation.summary import RowResult, Spread, ablation_table, as_markdown, findings
from restoration.evaluate_transfer.cases import Case
from restoration.refstar_config import MaskSource
from restoration.refstar_data import Face, FaceMaker


def test_each_row_leaves_out_one_thing_and_gets_the_same_steps(refstar_settings):
    full = row_settings(Row.FULL, refstar_settings, 3)
    assert (full.seed, full.losses.cycle, full.data.mask) == (3, 1.5, MaskSource.REFSEL)
    for row in Row:
        made = row_settings(row, refstar_settings, 3)
        longer = row is Row.NO_CYCLE_LONGER
        assert made.phase_two.steps == 4 * (2 if longer else 1)
        assert (made.losses.cycle == 0) == (longer or row is Row.NO_CYCLE)
        concatenated = made.restorer.attention.form is AttentionForm.CONCATENATED
        assert concatenated == (row is Row.CONCATENATED)
        fixed = row in (Row.ALL_ONES, Row.ALL_ZEROS)
        assert (made.data.mask is MaskSource.ANNOTATED) == fixed


def test_a_fixed_mask_is_trained_with_and_tested_with(refstar_settings, refstar_faces):
    make = FaceMaker(refstar_faces.train, refstar_settings.data, 0)
    for row, value in ((Row.ALL_ONES, 1), (Row.ALL_ZEROS, 0)):
        face = with_row_masks(make, row)(1, 2)
        assert (face.mask == value).all()
        assert face.region.all()
        assert (face.degraded == make(1, 2).degraded).all()
    assert with_row_masks(make, Row.NO_CYCLE) is make
    reviewed = FaceMaker(AsReviewed(refstar_faces.train), refstar_settings.data, 0)(1, 2)
    # The source's mask leaves out the lower rows, which the severe rule would have added.
    assert not reviewed.mask[22:].any()
    assert (reviewed.degraded == make(1, 2).degraded).all()
    seen = []
    pipeline = SimpleNamespace(
        restore=lambda degraded, _reference, mask: (seen.append(mask), degraded)[1]
    )
    cases = [case(0)]
    reviewed = [replace(cases[0], face=replace(cases[0].face, mask=cases[0].marks))]
    for row, source in (
        (Row.ALL_ONES, MaskSource.ANNOTATED),
        (Row.ALL_ZEROS, MaskSource.ANNOTATED),
        (Row.FULL, MaskSource.ANNOTATED),
        (Row.FULL, MaskSource.REFSEL),
    ):
        restore_cases(pipeline, reviewed, row, source, 2)
    assert [None if one is None else float(one.mean()) for one in seen] == [1, 0, 0.5, None]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def case(number: int) -> Case:
    """Marks in the upper half, glasses in the lower one."""
    whole = np.ones((32, 32), bool)
    upper = np.arange(32)[:, None] < np.full(32, 16)
    face = Face(noise(number), noise(50), noise(100 + number), noise(50), whole, whole)
    return Case(f"pair-{number}", f"person-{number}", face, upper, ~upper)


def test_measures_tell_the_truth_from_a_copy_of_the_reference():
    cases = [case(0), case(1)]
    alone = np.full((2, 32, 32, 3), 0.5, np.float32)
    truth, reference = (
        np.stack([getattr(one.face, name) for one in cases]).astype(np.float32) / 255
        for name in ("truth", "reference")
    )
    perfect = measure_row(cases, truth, alone)
    assert perfect.marks == pytest.approx(1)
    assert perfect.contrast == pytest.approx(1)
    assert perfect.like_truth == pytest.approx(1, abs=1e-5)
    assert perfect.psnr == pytest.approx(100)
    assert abs(perfect.glasses) < 0.2
    copied = measure_row(cases, reference, alone)
    assert copied.glasses == pytest.approx(1)
    assert copied.like_reference == pytest.approx(1, abs=1e-5)
    assert abs(copied.marks) < 0.2
    nothing = measure_row(cases, alone, alone)
    assert (nothing.contrast, nothing.glasses, nothing.like_truth) == pytest.approx((0, 0, 0))
    unknown = [replace(one, marks=one.marks & False, glasses=one.glasses & False) for one in cases]
    assert math.isnan(measure_row(unknown, truth, alone).marks)
    half = np.arange(32)[:, None] < np.full(32, 16)
    assert likeness(truth[0] * half[..., None], truth[0], half & (np.arange(32) > 0)) > 0.9


def result(row: Row, *values: float) -> RowResult:
    return RowResult(row, tuple(Measures(v, v, v, v, v, v) for v in values), 10, 0.1)


def test_a_terminal_of_80_columns_shows_every_figure_whole():
    table = ablation_table({row: result(row, 0.421, 0.434) for row in Row}, "three seeds")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert "…" not in text
    assert text.count("0.427") == len(Row) * (len(MEASURES) - 1)
    assert text.count("±0.009") == len(Row) * (len(MEASURES) - 1)


def test_findings_agree_disagree_or_stay_open():
    results = {
        Row.ALL_ONES: result(Row.ALL_ONES, 0.5, 0.52),
        Row.ALL_ZEROS: result(Row.ALL_ZEROS, 0.0, 0.0),
        Row.NO_CYCLE: result(Row.NO_CYCLE, 0.19, 0.22),
        Row.FULL: result(Row.FULL, 0.2, 0.22),
    }
    verdicts = {one.text: one.verdict for one in findings(results)}
    assert verdicts["the full model is most like the truth (ID-GT)"] == "disagrees"
    assert verdicts["all ones leaks glasses most"] == "agrees"
    assert verdicts["w/ all-zeros mask: fewer marks come back"] == "agrees"
    assert verdicts["w/o cycle loss: fewer marks come back"].startswith("undecided")
    assert verdicts["w/o DCA: fewer marks come back"] == "not measured"
    text = as_markdown(results)
    assert "| full | 0.210 ±0.014 |" in text
    assert Spread.of([1.0, math.nan]).text(2) == "1.00"
    assert Spread.of([math.nan]).text(2) == "-"


@pytest.mark.slow
def test_rows_are_trained_measured_resumed_and_refused(
    refstar_settings, refstar_faces, refsel_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(ablation_run, "RefSelShards", lambda *_: [0, 1])
    tested = [case(0), case(1)]
    monkeypatch.setattr(ablation_run, "held_out_cases", lambda *_: iter(tested))
    monkeypatch.setattr(ablation_run, "open_faces", lambda *_: refstar_faces)
    monkeypatch.setattr("restoration.refstar_run.open_faces", lambda *_: refstar_faces)
    rows = (Row.ALL_ZEROS, Row.NO_CYCLE_LONGER, Row.CONCATENATED, Row.FULL)
    budget = Budget(seeds=(0, 1), steps=1, rows=rows)
    told: list[str] = []

    def run(settings=refstar_settings, **others):
        told.clear()
        return ablate(
            settings,
            tmp_path / "nowhere",
            tmp_path / "out",
            budget,
            weights=tmp_path,
            refsel=refsel_folder,
            progress=lambda what, _done, _total: told.append(what),
            **others,
        )

    first = run()
    assert tuple(first.results) == rows
    assert all(len(one.seeds) == 2 for one in first.results.values())
    assert [one.glasses for one in first.results[Row.ALL_ZEROS].seeds] == [0, 0]
    report = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert set(report["rows"]["full"]["mean"]) == set(MEASURES)
    assert (tmp_path / "out" / "ablation.jpg").stat().st_size > 1000
    assert "w/o cycle loss, equal compute" in (tmp_path / "out" / "ablation.md").read_text()
    assert "full, seed-1" in told
    RefStarPipeline.from_pretrained(tmp_path / "out" / "concatenated" / "seed-0" / "last")

    (tmp_path / "out" / "full" / "seed-1" / DONE_NAME).unlink()
    again = run(first_phase=tmp_path / "out")
    assert again.results[Row.FULL].seeds == first.results[Row.FULL].seeds
    assert "full, seed-0" not in told

    tested.append(case(2))
    on_more = run(first_phase=tmp_path / "out")
    assert not [what for what in told if "seed" in what]  # measured anew, and not trained anew
    for row in rows:
        assert on_more.results[row].seeds[0].psnr != first.results[row].seeds[0].psnr
    other = replace(refstar_settings, losses=replace(refstar_settings.losses, cycle=2.0))
    with pytest.raises(ValueError, match="other settings"):
        run(other, first_phase=tmp_path / "out")

"""The paper's test of RefSel: its choice of pairs, its numbers, its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.degradation import preset
from dataset_engine.shards import Triplet, write_version
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.taxonomy import Conflict, Scenario, Split, Status
from models.metrics import Confusion
from models.refsel import CheckpointError, FirstInput, RefSel, RefSelConfig
from restoration.evaluate_refsel.measures import Measured, Reliability, measure
from restoration.evaluate_refsel.protocol import choose_cases, severe_examples
from restoration.evaluate_refsel.run import REPORT_NAME, ProtocolSettings, evaluate_refsel
from restoration.evaluate_refsel.summary import summarise_test
from restoration.refsel_answers import answers
from restoration.refsel_data import make_example

KINDS = (
    (Conflict.MOUTH,),
    (Conflict.MOUTH, Conflict.EYES),
    (Conflict.MOUTH, Conflict.BEARD),
    (Conflict.GLASSES, Conflict.PATTERN),
    (),
)
TINY = RefSelConfig(
    encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), first_input=FirstInput.DEGRADED
)


def face(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    small = rng.integers(60, 200, (32, 32, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)


class Drawn:
    """Triplets whose reference differs from the ground truth in its lower half."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def conflicts(self, index: int, /) -> tuple[Conflict, ...]:
        return KINDS[index % len(KINDS)]

    def __getitem__(self, index: int, /) -> RefSelSample:
        gt = face(index)
        region = np.zeros((512, 512), bool)
        region[64:448, 64:448] = True
        mask = region.copy()
        mask[256:] = False
        name = f"pair-{index}"
        return RefSelSample(
            gt, np.flipud(gt), mask, region, region, name, name, self.conflicts(index)
        )


def test_no_pair_stands_for_two_scenarios_and_as_many_places_are_filled_as_can_be():
    cases = choose_cases(Drawn(50), 10, seed=3)
    assert len({case.index for case in cases}) == len(cases)
    counts = dict.fromkeys(Scenario, 0)
    for case in cases:
        counts[case.scenario] += 1
        assert str(case.scenario) in {*KINDS[case.index % 5], "glasses_patterns"}
    # ten pairs each have eyes or a beard beside an open mouth: mouth keeps its own ten
    assert counts == {
        Scenario.MOUTH: 10,
        Scenario.EYES: 10,
        Scenario.WRINKLES: 0,
        Scenario.BEARD: 10,
        Scenario.GLASSES_PATTERNS: 10,
    }


def test_the_choice_is_a_function_of_the_seed():
    assert choose_cases(Drawn(50), 4, seed=1) == choose_cases(Drawn(50), 4, seed=1)
    assert choose_cases(Drawn(50), 4, seed=1) != choose_cases(Drawn(50), 4, seed=2)


def test_severe_inputs_are_drawn_until_they_are_severe():
    settings = replace(preset("paper"), severe_threshold=0.3)
    found = list(severe_examples(Drawn(6), range(6), settings, count=3, seed=0))
    assert len({one.key for one in found}) == 3
    for example in found:
        assert example.severe
        assert example.detail_kept < 0.3
        assert np.array_equal(example.pair.mask, example.pair.region)


def test_reliability_counts_every_pixel_once_and_knows_a_liar():
    p = np.array([0.0, 0.04, 0.5, 0.97, 1.0], np.float32)
    consistent = np.array([False, False, True, True, True])
    counted = Reliability.count(p, consistent)
    assert counted.pixels.sum() == 5
    assert counted.consistent.sum() == 3
    assert counted.pixels[0] == 2  # 0 and .04
    assert counted.pixels[-1] == 2  # .97, and 1 itself
    honest = Reliability.count(np.full(100, 0.7, np.float32), np.arange(100) < 70)
    liar = Reliability.count(np.full(100, 0.7, np.float32), np.arange(100) < 20)
    assert honest.expected_error == pytest.approx(0, abs=1e-6)
    assert liar.expected_error == pytest.approx(0.5, abs=1e-6)
    assert (honest + liar).pixels.sum() == 200


def test_an_answer_is_measured_in_the_face_region_alone():
    example = make_example(Drawn(1)[0], 5, replace(preset("paper"), severe_threshold=0.0))
    perfect = np.where(example.pair.mask, 0.9, 0.1).astype(np.float32)
    outside = np.where(example.pair.region, perfect, 0.9).astype(np.float32)
    for p in (perfect, outside):
        found = measure(example, p, 0.5, Scenario.MOUTH)
        assert found.confusion.accuracy == 1
        assert found.boundary_f == 1
        assert found.confusion.conflict_recall == 1
    ones = measure(example, np.ones((512, 512), np.float32), 0.5, Scenario.MOUTH)
    assert ones.confusion == found.confusion.all_ones
    assert ones.boundary_f == 0


def measured(scenario: Scenario, kept: float, right: int) -> Measured:
    nothing = Reliability.count(np.zeros(1, np.float32), np.zeros(1, bool))
    confusion = Confusion(right, 10 - right, 0, 0)
    return Measured("a", scenario, kept, False, confusion, 0.5, nothing)


def test_scenarios_and_fifths_of_severity_have_their_own_rows():
    some = [measured(Scenario.MOUTH, k / 10, 5 + k // 2) for k in range(10)]
    summary = summarise_test([*some, measured(Scenario.EYES, 0.95, 2)], [], 0.5)
    assert [(row.name, row.scores.pairs) for row in summary.scenarios] == [
        ("mouth", 10),
        ("eyes", 1),
    ]
    assert summary.mean("accuracy") == pytest.approx((0.7 + 0.2) / 2)
    assert summary.mean("boundary_f") == 0.5
    assert sum(one.row.scores.pairs for one in summary.by_severity) == 11
    lows = [one.least for one in summary.by_severity]
    assert lows == sorted(lows)
    assert summary.by_severity[0].row.scores.accuracy < summary.by_severity[3].row.scores.accuracy
    with pytest.raises(ValueError, match="export again"):
        summarise_test([], [], 0.5)


def test_answers_come_in_order_whatever_the_batch():
    model = RefSel(TINY).eval()
    examples = [make_example(Drawn(3)[i], i, preset("paper")) for i in range(3)]
    one, all_at_once = (list(answers(model, iter(examples), size)) for size in (2, 8))
    assert [example.key for example, _ in one] == ["pair-0", "pair-1", "pair-2"]
    for (_, p), (_, q) in zip(one, all_at_once, strict=True):
        np.testing.assert_allclose(p, q, atol=2e-2)


def write_export(folder: Path) -> Path:
    folder.mkdir()

    def save(name: str, image: np.ndarray) -> Path:
        path = folder / name
        flags = [cv2.IMWRITE_PNG_BILEVEL, 1] if name.endswith(".png") else []
        assert cv2.imwrite(str(path), image, flags)
        return path

    def triplets():
        for number, split in enumerate([Split.TRAIN, Split.VALIDATION, *[Split.TEST] * 4]):
            sample = Drawn(6)[number]
            regions = sample.ref_region.astype(np.uint8) * 255
            yield Triplet(
                key=f"pair-{number}",
                identity=f"person-{number}",
                split=split,
                gt=save(f"{number}-gt.jpg", sample.gt),
                ref=save(f"{number}-ref.jpg", sample.reference),
                gt_region=save(f"{number}-gt.png", regions),
                ref_region=save(f"{number}-ref.png", regions),
                mask=save(f"{number}-mask.png", sample.mask.astype(np.uint8) * 255),
                conflicts=sample.conflicts,
                status=Status.ADJUSTED,
                round=1,
                annotator="ann",
                model_version=None,
                gt_phash=f"{number * 7919:016x}",
                ref_phash=f"{2**60 + number * 104729:016x}",
                gt_points=((193.0, 240.0),) * 5,
                ref_points=((193.0, 240.0),) * 5,
                source="drawn",
                licence="CC0-1.0",
            )

    write_version(triplets(), folder / "out", allow=frozenset({"near-duplicate"}))
    return folder / "out"


def test_a_run_leaves_a_page_with_pictures_and_the_same_numbers_each_time(tmp_path: Path):
    export = write_export(tmp_path / "export")
    RefSel(TINY).save_pretrained(tmp_path / "model")
    settings = ProtocolSettings(per_scenario=1, severe=1, worst=2, batch_size=2)
    steps: list[tuple[int, int | None]] = []
    for out in ("one", "two"):
        run = evaluate_refsel(
            tmp_path / "model",
            export,
            tmp_path / out,
            settings,
            progress=lambda done, total: steps.append((done, total)),
        )
        assert run.page == tmp_path / out / "index.html"
        assert steps[-1][0] == steps[-1][1]
    first, second = ((tmp_path / out / REPORT_NAME).read_bytes() for out in ("one", "two"))
    assert first == second
    report = json.loads(first)
    assert [row["scores"]["pairs"] for row in report["scenarios"]] == [1] * len(report["scenarios"])
    page = run.page.read_text()
    assert "under RefSel" in page
    pictures = sorted(path.name for path in (tmp_path / "one" / "worst").iterdir())
    assert pictures == ["00.jpg", "01.jpg"]
    picture = cv2.imread(str(tmp_path / "one" / "worst" / "00.jpg"))
    assert picture.shape == (224, 6 * 224, 3)
    assert (tmp_path / "one" / "curves.png").stat().st_size > 10_000


def test_a_bootstrap_unet_is_refused(tmp_path: Path):
    RefSel(replace(TINY, first_input=FirstInput.GROUND_TRUTH)).save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="train-refsel"):
        evaluate_refsel(
            tmp_path / "model",
            tmp_path,
            tmp_path / "out",
            ProtocolSettings(),
            progress=lambda done, total: None,
        )

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from restoration.evaluate_methods import result_folders
from restoration.evaluate_methods.closer_look import CloserLook, find_difference
from restoration.evaluate_methods.intervals import mean_interval
from restoration.evaluate_methods.page import embedded
from restoration.evaluate_methods.quoted import REAL, SYNTHETIC, paper
from restoration.evaluate_methods.result_folders import (
    INPUT,
    Loaded,
    Problems,
    find_entries,
    load_entries,
    method_folders,
)
from restoration.evaluate_methods.run import (
    EvaluationSettings,
    SetResults,
    evaluate_methods,
)
from restoration.evaluate_methods.table_one import TestSet, as_markdown, build_table
from restoration.evaluate_methods.terminal import evaluation_tables
from restoration.metric_tools import MetricWeights, open_tools
from restoration.metrics import Face, Metric

SIDE = 64
PSNR = (TestSet.SYNTHETIC, Metric.PSNR)


def picture(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def off(image: np.ndarray, by: float) -> np.ndarray:
    noise = np.random.default_rng(9).normal(0, by, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """Four faces, with a good and a bad method's results."""
    for number in range(4):
        truth = picture(number)
        for role, image in (
            ("set/gt", truth),
            ("set/lq", off(truth, 30)),
            ("set/ref", picture(50 + number)),
            ("good", off(truth, 4)),
            ("bad", off(truth, 16)),
        ):
            write(tmp_path / role / f"face-{number}.png", image)
    return tmp_path / "set"


@pytest.fixture
def evaluate(test_set: Path, tmp_path: Path):
    def run(out: str = "out", **methods: str):
        folders = {name: tmp_path / folder for name, folder in methods.items()}
        return evaluate_methods(
            {TestSet.SYNTHETIC: SetResults(test_set, folders)},
            tmp_path / out,
            open_tools(MetricWeights.in_folder(tmp_path / "weights")),
            EvaluationSettings(looks=2, workers=0),
        )

    return run


def test_the_quoted_figures_are_the_papers():
    methods = paper().methods
    assert list(methods) == [
        *("CodeFormer", "GFPGAN", "GPEN", "OSEDiff", "DiffBIR"),
        *("ASFFNet", "DMDNet", "FaceMe", "RefLDM", "RestoreID", "RefSTAR"),
    ]
    assert {len(one.synthetic) for one in methods.values()} == {len(SYNTHETIC)}
    assert {len(one.real) for one in methods.values()} == {len(REAL)}
    assert methods["RefSTAR"].synthetic == (23.99, 0.350, 22.21, 78.04, 64.68, 73.71)
    assert methods["GPEN"].real[-1] == 74.31
    assert paper().name_of("gfp-gan") == "GFPGAN"
    assert paper().name_of("restormer") is None


def test_without_results_the_table_is_the_papers_with_its_own_marks():
    rows, columns = build_table({}, 0)
    assert len(columns) == 9
    by = {row.name: row for row in rows}
    assert all(cell.quoted for row in rows for cell in row.cells.values())
    # The paper prints DMDNet's PSNR bold, and underlines DiffBIR's and its own, which are equal.
    assert [by[n].cells[PSNR].rank for n in ("DMDNet", "DiffBIR", "RefSTAR", "GPEN")] == [
        1,
        2,
        2,
        0,
    ]
    fid = (TestSet.REAL, Metric.FID)
    assert (by["RefSTAR"].cells[fid].rank, by["RefLDM"].cells[fid].rank) == (1, 2)
    text = as_markdown(rows, columns)
    assert "*<u>23.99</u> q*" in text
    assert "*0.429 q*" in text
    assert len(evaluation_tables(rows, columns)) == 2


def test_what_is_measured_takes_the_place_of_what_is_quoted_and_is_ranked_apart(evaluate):
    result = evaluate(gfpgan="good", Mine="bad")
    by = {row.name: row for row in result.rows}
    assert next(iter(by)) == INPUT
    assert list(by)[-1] == "Mine"
    good, bad = by["GFPGAN"].cells[PSNR], by["Mine"].cells[PSNR]
    assert (good.quoted, good.rank, bad.rank) == (False, 1, 2)
    assert good.value > bad.value > by[INPUT].cells[PSNR].value
    assert by[INPUT].cells[PSNR].rank == 0
    assert good.interval.low < good.value < good.interval.high
    # No weights are here: the cell says so, and the paper's figure does not take its place.
    lpips = by["GFPGAN"].cells[TestSet.SYNTHETIC, Metric.LPIPS]
    assert (lpips.value, lpips.quoted) == (None, False)
    assert lpips.missing
    assert by["GPEN"].cells[PSNR].quoted
    assert by["DMDNet"].cells[PSNR].rank == 1
    # It was not measured on the real set: there the quoted figure stays.
    assert by["GFPGAN"].cells[TestSet.REAL, Metric.FID].quoted


def test_the_reports_agree_and_are_the_same_each_time(evaluate, tmp_path):
    for out in ("one", "two"):
        evaluate(out, good="good", bad="bad")
    for name in ("table.md", "table.csv", "faces.csv", "evaluation.json", "index.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with (tmp_path / "one" / "table.csv").open() as file:
        lines = [row for row in csv.DictReader(file) if row["method"] == "good"]
    report = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    cells = {c["metric"]: c for c in report["cells"] if c["method"] == "good"}
    assert {one["metric"] for one in lines} == set(cells)
    assert float(lines[0]["value"]) == cells["PSNR"]["value"]
    assert report["definitions"]["PSNR"]["library"]
    page = (tmp_path / "one" / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count("data:image/jpeg;base64,") == 2 * 2 * 5
    assert (tmp_path / "one" / "faces.csv").read_text().count("good,face-0,PSNR") == 1


def test_missing_broken_and_misfit_files_are_named_and_the_rest_goes_on(
    evaluate, test_set, tmp_path
):
    good = tmp_path / "good"
    (good / "face-0.png").unlink()
    (good / "face-1.png").write_bytes(b"no picture")
    write(good / "face-2.png", picture(2)[:32])
    write(good / "stranger.png", picture(2))
    write(tmp_path / "bad" / "face-3.jpg", picture(3))
    result = evaluate(good="good", bad="bad")
    text = "\n".join(result.problems)
    assert "face-0: missing: good is measured without it" in text
    assert "face-1.png: no readable image" in text
    assert "face-2.png: 64x32 px, not 64x64" in text
    assert "stranger.png: no face of the test set has this name" in text
    assert "has the same name and was taken" in text
    by = {row.name: row for row in result.rows}
    assert by["good"].cells[PSNR].faces == 1
    assert by["bad"].cells[PSNR].faces == 4
    table = (tmp_path / "out" / "table.md").read_text()
    assert "good was measured on 1 of 4 faces" in table
    (test_set / "gt" / "face-3.png").write_bytes(b"")
    assert (
        evaluate("again", good="bad").measured[TestSet.SYNTHETIC]["good"].cells[Metric.PSNR].faces
        == 3
    )


def test_grey_alpha_and_16_bit_images_are_read(test_set, tmp_path):
    write(tmp_path / "m" / "face-0.png", picture(0)[..., 0])
    write(tmp_path / "m" / "face-1.png", np.dstack([picture(1), picture(1)[..., :1]])[..., ::-1])
    write(tmp_path / "m" / "face-2.png", picture(2).astype(np.uint16) * 257)
    problems = Problems()
    entries = find_entries(test_set, {"m": tmp_path / "m"}, problems)
    images = [one.face.restored.get("m") for one in load_entries(entries, problems, workers=0)]
    assert [None if i is None else (i.shape, i.dtype) for i in images] == [
        ((SIDE, SIDE, 3), np.uint8)
    ] * 3 + [None]
    assert np.abs(images[2].astype(int) - picture(2)).max() <= 1


def test_every_image_is_decoded_once(evaluate, tmp_path, monkeypatch):
    decoded: list[Path] = []
    read = result_folders.read_rgb
    monkeypatch.setattr(
        result_folders,
        "read_rgb",
        lambda path, problems: (decoded.append(path), read(path, problems))[1],
    )
    evaluate(good="good", bad="bad")
    assert len(decoded) == len(set(decoded)) == 4 * 5


def test_wrong_folders_are_refused_with_the_mend(test_set, tmp_path):
    with pytest.raises(ValueError, match="NAME=FOLDER"):
        method_folders(["results"])
    with pytest.raises(ValueError, match="another name"):
        method_folders(["a=x", "a=y"])
    assert method_folders(["a=x=y"]) == {"a": Path("x=y")}
    with pytest.raises(ValueError, match="no images in gt, lq or ref"):
        find_entries(tmp_path / "nowhere", {}, Problems())
    with pytest.raises(ValueError, match="NAME=FOLDER with a's results"):
        find_entries(test_set, {"a": tmp_path / "nowhere"}, Problems())


def test_an_interval_covers_the_mean_and_shrinks_with_more_faces():
    random = np.random.default_rng(0)
    few, many = random.normal(10, 2, 20), random.normal(10, 2, 2000)
    wide, narrow = mean_interval(list(few), 0), mean_interval(list(many), 0)
    assert wide.low < few.mean() < wide.high
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * few.std() / 20**0.5, rel=0.1)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5
    assert mean_interval(list(few), 0) == wide
    assert mean_interval([1.0], 0) is None


def test_the_faces_that_differ_most_are_kept_with_the_place_where_they_do():
    def loaded(name: str, by: int) -> Loaded:
        one, two = picture(1), picture(1)
        two[40:56, 8:24] = np.clip(two[40:56, 8:24].astype(int) + by, 0, 255)
        return Loaded(Face(name, {INPUT: picture(7), "a": one, "b": two}), None)

    look = find_difference(loaded("x", 60))
    assert (look.left, look.top, look.side) == pytest.approx((8, 40, 16), abs=1)
    keeps = CloserLook(2)
    for name, by in (("little", 4), ("most", 90), ("none", 0), ("much", 50)):
        keeps.consider(loaded(name, by))
    assert [one.loaded.face.name for one in keeps.looks()] == ["most", "much"]
    nothing = CloserLook(0)
    nothing.consider(loaded("x", 9))
    assert nothing.looks() == []


def test_names_cannot_break_out_of_the_page():
    assert "</script>" not in embedded({"</script><b>": 1})
    assert json.loads(embedded({"<&>": 1})) == {"<&>": 1}

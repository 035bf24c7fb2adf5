"""`engine evaluate`, `engine explain` and `engine ablate` as a person runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from dataset_engine.cli import app


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Result]:
    def run(*words: str | Path) -> Result:
        return CliRunner().invoke(app, ["--home", str(tmp_path / "home"), *map(str, words)])

    return run


def blotches(path: Path, seed: int, blur: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), cv2.GaussianBlur(image, (0, 0), blur) if blur else image)
    return path


def test_results_are_measured_beside_quoted_figures_and_what_is_missing_is_named(
    engine: Callable[..., Result], tmp_path: Path
) -> None:
    for number in range(3):
        for role, blur in (("set/gt", 0), ("set/lq", 5), ("mine", 2), ("theirs", 3)):
            blotches(tmp_path / role / f"{number}.png", number, blur)
        blotches(tmp_path / "set" / "ref" / f"{number}.png", 50 + number)
    (tmp_path / "theirs" / "2.png").unlink()
    out = tmp_path / "report"
    methods = [f"Mine={tmp_path}/mine", f"GFPGAN={tmp_path}/theirs"]
    answer = engine("evaluate", tmp_path / "set", *methods, "--out", out)
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "left out" in said
    assert "missing: GFPGAN is measured without it" in said
    assert "weights absent: put alexnet-owt-7be5be79.pth into" in said
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "table.md", "table.csv", "faces.csv", "evaluation.json"),
    }
    cells = json.loads((out / "evaluation.json").read_text())["cells"]
    psnr = {one["method"]: one for one in cells if one["metric"] == "PSNR"}
    assert psnr["Mine"]["source"] == psnr["GFPGAN"]["source"] == "measured"
    assert psnr["RefLDM"]["source"] == "quoted"

    answer = engine("evaluate", tmp_path / "set", "mine", "--out", out)
    assert answer.exit_code == 1
    assert "give NAME=FOLDER" in answer.output


def test_without_results_the_papers_table_is_printed(engine: Callable[..., Result]) -> None:
    answer = engine("evaluate")
    assert answer.exit_code == 0, answer.output
    assert "78.04" in answer.output


def test_a_pair_is_explained_by_command(
    engine: Callable[..., Result], tiny_pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    from models.refsel import RefSel

    tiny_pipeline(RefSel).save_pretrained(tmp_path / "home/runs/restoration/phase-2/best")
    pair = [blotches(tmp_path / f"{name}.png", seed) for seed, name in enumerate(("lq", "ref"))]
    answer = engine("explain", *pair, "-o", tmp_path / "why.html")
    assert answer.exit_code == 0, answer.output
    assert "lq.png, restored with ref.png" in (tmp_path / "why.html").read_text()


def test_an_ablation_without_shards_says_what_to_give(
    engine: Callable[..., Result], tmp_path: Path
) -> None:
    answer = engine("ablate", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert answer.exit_code == 1
    assert "give RefSel-HQ shards or identity folders" in " ".join(answer.output.split())

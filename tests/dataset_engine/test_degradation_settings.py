"""Presets parse as published, and a wrong field is named with its file and path."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import yaml

from dataset_engine.degradation import preset, presets, read_presets
from dataset_engine.degradation.settings import PRESETS_FILE, Family, Interpolation, parse

NAMES = [
    "paper",
    "gfpgan",
    "codeformer-small",
    "codeformer-large",
    "diffbir",
    "faceme",
    "ref-ldm",
    "hidden-marks",
]


def paper():
    return copy.deepcopy(yaml.safe_load(PRESETS_FILE.read_text())["paper"])


def test_all_named_presets_are_there():
    assert list(presets()) == NAMES


def test_paper_preset_is_real_esrgan_second_order_with_motion_and_defocus():
    first, second = preset("paper").stages
    assert first.blur.families[Family.ISO] == 0.45
    assert sum(first.blur.families.values()) == pytest.approx(1)
    assert (first.blur.probability, second.blur.probability) == (1, 0.8)
    assert (first.blur.sigma, second.blur.sigma) == ((0.2, 3), (0.2, 1.5))
    assert (first.resize.up, first.resize.down, first.resize.keep) == (0.2, 0.7, 0.1)
    assert (second.resize.up, second.resize.down, second.resize.keep) == (0.3, 0.4, 0.3)
    assert (first.resize.scale, second.resize.scale) == ((0.15, 1.5), (0.3, 1.2))
    assert (first.noise.sigma, second.noise.sigma) == ((1, 30), (1, 25))
    assert (first.noise.poisson, second.noise.poisson) == ((0.05, 3), (0.05, 2.5))
    assert first.noise.gray == second.noise.gray == 0.4
    assert first.jpeg == second.jpeg == (30, 95)
    assert preset("paper").final.sinc == 0.8
    for stage in (first, second):
        assert stage.blur.sinc == 0.1
        assert stage.blur.motion > 0
        assert stage.blur.defocus > 0
        assert stage.resize.interpolations == tuple(Interpolation)


@pytest.mark.parametrize(
    ("name", "sigma", "factor", "noise", "quality"),
    [
        ("gfpgan", (0.1, 10), (0.8, 8), (0, 20), (60, 100)),
        ("codeformer-small", (0.1, 10), (1, 12), (0, 15), (60, 100)),
        ("codeformer-large", (1, 15), (4, 30), (0, 20), (30, 80)),
        ("diffbir", (0.1, 12), (1, 12), (0, 15), (30, 100)),
        ("faceme", (0.2, 10), (1, 16), (0, 15), (30, 100)),
        ("ref-ldm", (0, 16), (1, 32), (0, 20), (30, 100)),
    ],
)
def test_one_stage_presets_carry_their_published_ranges(name, sigma, factor, noise, quality):
    (stage,) = preset(name).stages
    assert (stage.blur.sigma, stage.resize.factor) == (sigma, factor)
    assert (stage.noise.sigma, stage.jpeg) == (noise, quality)
    assert preset(name).final.sinc == 0


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("paper").severe_threshold = 0.5


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no degradation preset 'papr'; there are paper, gfpgan"):
        preset("papr")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.0.blur.sigma", [3, 1], "the low end 3.0 is above the high end 1.0"),
        ("stages.0.blur.sigma", [-1, 1], "greater than or equal to 0"),
        ("stages.0.blur.sigmas", [1, 3], "Unexpected keyword"),
        ("stages.1.blur.size", [8, 21], "two odd sizes"),
        ("stages.1.blur.families.round", 0.1, "'iso', 'aniso'"),
        ("stages.0.blur.motion", 0.95, "add up to more than 1"),
        ("stages.1.resize.up", 0.9, "up + down + keep: expected 1"),
        ("stages.1.resize.factor", [1, 2], "exactly one of the two"),
        ("stages.0.resize.scale", [0.1, 0.9], "1 must lie in"),
        ("stages.0.resize.interpolations", ["nearest"], "'area', 'bilinear' or 'bicubic'"),
        ("stages.0.noise.poisson", None, "needed exactly when gaussian is below 1"),
        ("stages.0.jpeg", [30, 101], "less than or equal to 100"),
        ("stages.0.jpeg", "high", "valid tuple"),
        ("stages", [], "at least 1 item"),
        ("final.sinc", 1.2, "less than or equal to 1"),
        ("final.divisor", 0, "greater than or equal to 1"),
        ("severe_threshold", "low", "valid number"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, path, value, message):
    values = paper()
    *parents, last = path.split(".")
    target = values
    for part in parents:
        target = target[int(part) if part.isdigit() else part]
    target[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"mine": values}))
    with pytest.raises(ValueError, match="mine") as caught:
        read_presets(file)
    text = str(caught.value)
    assert text.startswith(f"{file}, preset 'mine': ")
    assert message in text
    # Where fields have to agree, the path ends at their parent and the message names them.
    assert path in text or (".".join(parents) in text and last in text)


def test_a_missing_field_is_named():
    values = paper()
    del values["stages"][1]["jpeg"]
    with pytest.raises(ValueError, match=r"here: stages\.1\.jpeg: Field required"):
        parse(values, "here")


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "paper: 3\n", "paper: [unclosed\n"])
def test_a_file_that_holds_no_presets_is_refused_by_name(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        read_presets(file)

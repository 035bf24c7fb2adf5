from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dataset_engine.degradation import preset
from models.reference_features import AttentionForm
from models.restorer import Phase
from restoration.losses import LossWeights
from restoration.refstar_config import (
    PRESETS,
    Backbone,
    MaskSource,
    Optimisation,
    PhaseTraining,
    RefStarTraining,
    chosen_settings,
    read_refstar,
)

SHIPPED = ("tiny", "arc2face", "sd15")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_preset_is_read_and_keeps_the_papers_optimiser_and_attention(name: str):
    settings = read_refstar(PRESETS / f"{name}.yaml")
    assert (settings.optimisation.beta1, settings.optimisation.beta2) == (0.5, 0.999)
    assert settings.restorer.attention.form is AttentionForm.DECOUPLED
    assert settings.phase(Phase.TWO) is settings.phase_two


@pytest.mark.parametrize("name", ["arc2face", "sd15"])
def test_the_full_presets_are_the_papers(name: str):
    settings = read_refstar(PRESETS / f"{name}.yaml")
    assert settings.losses == LossWeights()
    assert settings.data.mask is MaskSource.REFSEL
    assert settings.data.own_references == 0
    assert settings.optimisation == Optimisation()
    assert settings.restorer.attention.position_sigmas is None
    assert settings.restorer.lora is not None
    assert settings.data.size == 512
    assert {settings.phase(phase).learning_rate for phase in Phase} == {1e-4}


def test_the_tiny_preset_needs_no_weights_and_says_what_it_leaves_out():
    settings = read_refstar(PRESETS / "tiny.yaml")
    assert settings.backbone is Backbone.TINY
    assert settings.restorer.lora is None
    losses = settings.losses
    assert losses.in_ground_truth.perceptual == losses.in_ground_truth.identity == 0
    assert losses.in_cycle.perceptual == losses.in_cycle.identity == 0
    assert losses.cycle == 0.5
    assert settings.data.mask is MaskSource.ANNOTATED
    assert preset(settings.data.degradation).severe_threshold == 0


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path):
    path = tmp_path / "some.yaml"
    path.write_text("phase_two: {steps: 7}\nrestorer: {lora: {rank: 8}}\n")
    settings = read_refstar(path)
    assert settings.phase_two == PhaseTraining(steps=7)
    assert settings.restorer.lora is not None
    assert settings.restorer.lora.rank == 8
    assert replace(settings, phase_two=PhaseTraining(), restorer=RefStarTraining().restorer) == (
        RefStarTraining()
    )


def test_a_preset_goes_by_its_name_and_a_file_by_its_path(tmp_path: Path):
    assert chosen_settings("tiny") == read_refstar(PRESETS / "tiny.yaml")
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\n")
    assert chosen_settings(str(path)).seed == 3
    with pytest.raises(ValueError, match=r"teeny cannot be read"):
        chosen_settings("teeny")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead: 7", "sead"),
        ("phase_two: {step: 7}", "phase_two.step"),
        ("restorer: {attention: {sigmas: [1]}}", "restorer.attention.sigmas"),
        ("restorer: {timestep: 1000}", "timestep must be"),
        ("losses: {cycle: -1}", "negative weight"),
        ("data: {size: 20}", "divide by 8"),
        ("backbone: tiny\ndata: {size: 8}\ntiny: {unshuffle: 8}", "tiny UNet's grid"),
        ("data: {mask: ones}", "data.mask"),
        ("- 1", "must hold fields"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_field_is_named_with_the_file(tmp_path: Path, text: str, said: str):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        read_refstar(path)
    assert str(path) in str(raised.value)

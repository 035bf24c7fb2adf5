from __future__ import annotations

from pathlib import Path

import pytest

from restoration.refsel_config import RefSelTraining, read_training


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path):
    path = tmp_path / "refsel.yaml"
    path.write_text("steps: 7\nmodel:\n  encoder: resnet34\naugmentation:\n  flip: 0\n")
    settings = read_training(path)
    assert settings.steps == 7
    assert settings.model.encoder == "resnet34"
    assert settings.model.threshold == RefSelTraining().model.threshold
    assert settings.augmentation.flip == 0.0
    assert settings.learning_rate == 1e-3
    assert (settings.beta1, settings.beta2) == (0.5, 0.999)


def test_an_empty_file_is_all_defaults(tmp_path: Path):
    path = tmp_path / "refsel.yaml"
    path.touch()
    assert read_training(path) == RefSelTraining()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps: 7", "stepps"),
        ("steps: 0", "steps"),
        ("model: {width: 3}", "model has no field width"),
        ("model: {threshold: 3}", "threshold"),
        ("augmentation: {flop: 1}", "augmentation has no field flop"),
        ("- 1", "must hold fields"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_field_is_named_with_the_file(tmp_path: Path, text: str, said: str):
    path = tmp_path / "refsel.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        read_training(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gone\.yaml cannot be read"):
        read_training(tmp_path / "gone.yaml")

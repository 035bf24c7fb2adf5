from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from models.refsel import CheckpointError
from models.restorer import Phase
from restoration.refstar_config import PRESETS, RefStarTraining, read_refstar
from restoration.weights import (
    WeightFile,
    check_weights,
    look_for,
    needed_weights,
    require_weights,
    weights_list,
)


def _preset(name):
    return read_refstar(PRESETS / f"{name}.yaml")


def test_the_tiny_preset_needs_nothing(tmp_path):
    assert needed_weights(_preset("tiny")) == []
    require_weights(_preset("tiny"), tmp_path, Phase.ONE)


def test_what_the_papers_preset_needs_says_from_where_and_on_which_terms():
    files = needed_weights(_preset("arc2face"))
    by_path = {file.path: file for file in files}
    assert by_path["arc2face/diffusion_pytorch_model.safetensors"].licence == "MIT"
    assert "FoivosPar/Arc2Face" in by_path["arcface.onnx"].source
    assert "research" in by_path["arcface-r50/backbone.pth"].licence
    assert by_path["arcface-r50/backbone.pth"].sha256 == ""
    assert by_path["vgg19-dcbb9e9d.pth"].sha256 == "dcbb9e9d"
    assert all(file.source and file.licence and file.size for file in files)
    plain = {file.path for file in needed_weights(_preset("sd15"))}
    assert "arcface.onnx" not in plain
    assert "stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors" in plain


def test_later_phases_need_the_loss_networks_alone_and_only_with_a_weight():
    settings = _preset("arc2face")
    later = [file.path for file in needed_weights(settings, [Phase.TWO])]
    assert later == ["vgg19-dcbb9e9d.pth", "arcface-r50/backbone.pth"]
    losses = settings.losses
    without = replace(losses, in_ground_truth=replace(losses.in_ground_truth, identity=0))
    settings = replace(settings, losses=without)
    assert "arcface-r50/backbone.pth" not in {
        file.path for file in needed_weights(settings, [Phase.THREE])
    }
    assert "arcface-r50/backbone.pth" in {
        file.path for file in needed_weights(settings, [Phase.TWO])
    }


def test_all_that_is_missing_is_one_error(tmp_path):
    with pytest.raises(CheckpointError, match="not complete") as raised:
        require_weights(RefStarTraining(), tmp_path, Phase.ONE)
    for path in ("arc2face/config.json", "arcface.onnx", "vgg19-dcbb9e9d.pth"):
        assert f"{path}: missing" in str(raised.value)
    assert "engine weights" in str(raised.value)


@pytest.fixture
def saved(tmp_path):
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(2)}, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def _look(path, *, hashes=False, **fields):
    file = WeightFile(path.name, "a net", "somewhere", "MIT", **fields)
    return look_for(file, path.parent, hashes=hashes)


def test_a_whole_file_of_the_right_model_is_fine(saved):
    assert _look(saved, parameters=(14,)).problem == ""
    found = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert not _look(saved, sha256=found).hashed
    for digits in (found, found[:8]):
        right = _look(saved, sha256=digits, hashes=True)
        assert (right.problem, right.hashed) == ("", True)


def test_another_base_a_cut_file_and_a_wrong_hash_are_told_apart(saved):
    assert (
        "14 numbers, not 15: the weights of another base" in _look(saved, parameters=(15,)).problem
    )
    assert "its SHA-256 is" in _look(saved, sha256="0" * 64, hashes=True).problem
    saved.write_bytes(saved.read_bytes()[:-4])
    assert "copy it again" in _look(saved).problem
    saved.write_bytes(b"\xff" * 20)
    assert "copy it again" in _look(saved).problem
    saved.write_bytes(b"")
    assert _look(saved).problem == "empty"


def test_a_text_encoder_in_torchs_own_format_will_do(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"something")
    other = _look(tmp_path / "model.safetensors", otherwise="pytorch_model.bin")
    assert other.problem == ""


def test_the_list_says_all_of_every_file(tmp_path):
    (tmp_path / "arcface.onnx").write_bytes(b"something")
    found = check_weights(_preset("arc2face"), tmp_path, hashes=True)
    listed = weights_list(found)
    for one in found:
        assert all(said in listed for said in (one.file.path, one.file.source, one.file.licence))
    assert "its SHA-256 is" in listed
    assert "SHA-256 dcbb9e9d..." in listed
    assert "not published, or not known here" in listed

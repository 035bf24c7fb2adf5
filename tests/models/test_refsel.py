from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import encoder_weights
from models.encoder_weights import load_encoder_weights
from models.refsel import CheckpointError, Comparison, FirstInput, RefSel, RefSelConfig
from models.refsel_inputs import RELIEF_CHANNELS

TINY = RefSelConfig(
    encoder="resnet18",
    decoder_channels=(8, 8, 8, 8, 8),
    working_size=32,
    first_input=FirstInput.DEGRADED,
    threshold=0.4,
    data_version="abc",
)


def _pair(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, side, side, generator=generator)
    return first, torch.rand(2, 3, side, side, generator=generator)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[RefSel, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("refsel")
    model = RefSel(TINY).eval()
    model.save_pretrained(folder)
    return model, folder


def test_logits_and_probability_keep_the_size_of_the_input(saved):
    model, _ = saved
    first, reference = _pair()
    with torch.no_grad():
        logits, p = model(first, reference), model.probability(first, reference)
    assert logits.shape == (2, 2, 64, 64)
    assert p.shape == (2, 64, 64)
    assert p.dtype == torch.float32
    assert 0 <= float(p.min()) <= float(p.max()) <= 1
    assert torch.allclose(p, logits.softmax(dim=1)[:, 1])


def test_the_two_inputs_play_different_parts(saved):
    model, _ = saved
    first, reference = _pair(32)
    with torch.no_grad():
        assert not torch.allclose(model(first, reference), model(reference, first))


@pytest.mark.parametrize("comparison", list(Comparison))
def test_both_comparisons_keep_the_size_and_survive_saving(comparison, tmp_path):
    model = RefSel(replace(TINY, comparison=comparison, working_size=None)).eval()
    assert model.unet.encoder.conv1.in_channels == (18 if comparison == "siamese" else 36)
    model.save_pretrained(tmp_path)
    loaded = RefSel.from_pretrained(tmp_path)
    assert loaded.config.comparison is comparison
    with torch.no_grad():
        logits = loaded(*_pair(64))
        assert logits.shape == (2, 2, 64, 64)
        assert torch.equal(logits, model(*_pair(64)))


@pytest.mark.parametrize("comparison", list(Comparison))
def test_folded_pixels_are_all_seen_and_the_size_is_kept(comparison, tmp_path):
    model = RefSel(replace(TINY, comparison=comparison, working_size=64, fold=2)).eval()
    images = 1 if comparison is Comparison.SIAMESE else 2
    assert model.unet.encoder.conv1.in_channels == images * (3 * 4 + RELIEF_CHANNELS)
    model.save_pretrained(tmp_path)
    first, reference = _pair(64)
    with torch.no_grad():
        logits = RefSel.from_pretrained(tmp_path)(first, reference)
        assert logits.shape == (2, 2, 64, 64)
        for row, column in ((30, 30), (30, 31), (31, 30), (31, 31)):
            other = reference.clone()
            other[..., row, column] = 1 - other[..., row, column]
            assert not torch.equal(model(first, other), logits)


def test_inputs_twice_the_working_size_are_averaged_as_training_examples_are(saved):
    model, _ = saved
    first, reference = _pair(64)
    small = [torch.nn.functional.avg_pool2d(image, 2) for image in (first, reference)]
    with torch.no_grad():
        expected = torch.nn.functional.interpolate(
            model(*small), scale_factor=2, mode="bilinear", align_corners=False
        )
        assert torch.allclose(model(first, reference), expected, atol=1e-5)


def test_exposure_and_the_colour_of_light_change_little(saved):
    model, _ = saved
    first, reference = _pair()
    first = 0.2 + 0.4 * first
    lit = first * torch.tensor([1.3, 1.1, 0.9]).view(1, 3, 1, 1)
    with torch.no_grad():
        before = model.probability(first, reference)
        apart = (model.probability(lit, reference) - before).abs().max()
        changed = (model.probability(reference, reference) - before).abs().max()
    assert apart < 0.1 * changed


def test_a_black_image_gives_finite_answers(saved):
    model, _ = saved
    with torch.no_grad():
        assert (
            model.probability(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)).isfinite().all()
        )


@pytest.mark.parametrize("comparison", list(Comparison))
def test_the_mask_of_an_input_without_detail_is_the_face_region(comparison):
    torch.manual_seed(0)
    model = RefSel(replace(TINY, comparison=comparison)).eval()
    first, reference = _pair(32)
    with torch.no_grad():
        judged = model.judge(first, reference)
        region = judged.region.sigmoid()[:, 0].clamp(1e-5, 1 - 1e-5)
        model.severe_at.fill_(judged.detail.max() + 5)
        blind = model.probability(first, reference)
        model.severe_at.fill_(judged.detail.min() - 5)
        seeing = model.probability(first, reference)
    assert torch.allclose(blind, region, atol=1e-4)
    assert (seeing < region)[region > 2e-5].all()
    assert (seeing <= region).all()


def test_the_estimate_of_detail_looks_at_the_first_image_alone():
    torch.manual_seed(0)
    model = RefSel(replace(TINY, comparison=Comparison.SIAMESE)).eval()
    first, reference = _pair(32)
    with torch.no_grad():
        before = model.judge(first, reference).detail
        assert torch.allclose(model.judge(first, 1 - reference).detail, before, atol=1e-5)
        assert not torch.allclose(model.judge(1 - first, reference).detail, before, atol=1e-3)


def test_the_mask_reaches_all_that_it_is_made_of_with_its_gradient(saved):
    model = RefSel(TINY)
    model.probability(*_pair(32)).sum().backward()
    assert model.severe_at.grad is not None
    assert model.detail[-1].weight.grad.abs().sum() > 0
    assert model.unet.segmentation_head[0].weight.grad.abs().sum() > 0


def test_a_siamese_answer_does_not_depend_on_the_rest_of_the_batch():
    model = RefSel(replace(TINY, comparison=Comparison.SIAMESE)).eval()
    first, reference = _pair(32)
    with torch.no_grad():
        together, alone = model(first, reference), model(first[1:], reference[1:])
    assert torch.allclose(together[1:], alone, atol=1e-5)


def test_the_default_is_what_measured_best():
    model = RefSel(RefSelConfig())
    assert model.config.comparison is Comparison.SIAMESE
    assert model.config.encoder == "tu-resnet10t"
    assert sum(part.numel() for part in model.parameters()) < 8e6


def test_a_saved_model_loads_with_the_same_function_and_config(saved):
    model, folder = saved
    loaded = RefSel.from_pretrained(folder)
    assert loaded.config == TINY
    assert not loaded.training
    first, reference = _pair()
    with torch.no_grad():
        assert torch.equal(loaded(first, reference), model(first, reference))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_the_files(saved, tmp_path):
    model, _ = saved
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert RefSel.from_pretrained(tmp_path).config == TINY


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not tensors"), "cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not a RefSel config"),
        (lambda f: _edit(f, surprise=1), "unknown \\['surprise'\\]"),
        (lambda f: _edit(f, threshold=7), "threshold must lie in"),
        (lambda f: _edit(f, encoder="resnet34"), "does not fit"),
        (lambda f: _edit(f, encoder="resnet1"), "cannot be built"),
        (lambda f: _edit(f, first_input="both"), "both"),
        (lambda f: _edit(f, comparison="by eye"), "by eye"),
        (lambda f: _edit(f, format=99), "not a RefSel config of format"),
    ],
)
def test_a_broken_folder_is_refused_with_its_cause(saved, tmp_path, change, said):
    folder = _copy(saved[1], tmp_path / "copy")
    change(folder)
    with pytest.raises(CheckpointError, match=said):
        RefSel.from_pretrained(folder)


def _edit(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "fields",
    [{"threshold": 0.0}, {"working_size": 100}, {"fold": 0}, {"decoder_channels": (8, 8)}],
)
def test_a_config_out_of_range_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        replace(TINY, **fields)


def test_inputs_of_another_shape_are_refused(saved):
    model, _ = saved
    first, reference = _pair()
    with pytest.raises(ValueError, match="alike"):
        model(first, reference[:1])
    native = RefSel(replace(TINY, working_size=None))
    with pytest.raises(ValueError, match="divide by 32"):
        native(first[..., :50], reference[..., :50])
    with pytest.raises(ValueError, match="divide by 64"):
        RefSel(replace(TINY, working_size=None, fold=2))(
            first[..., :32, :32], reference[..., :32, :32]
        )


def test_imagenet_weights_out_of_reach_are_said_aloud_and_do_not_stop(monkeypatch):
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise OSError("name resolution failed")

    monkeypatch.setattr(encoder_weights, "get_encoder", unreachable)
    model = RefSel(replace(TINY, encoder_weights="imagenet"))
    assert "out of reach (name resolution failed)" in model.encoder_weights_note
    assert "random weights" in model.encoder_weights_note


def test_a_hanging_download_is_left_at_its_deadline(monkeypatch):
    import threading

    never = threading.Event()
    monkeypatch.setattr(encoder_weights, "get_encoder", lambda *_, **__: never.wait(30))
    found = load_encoder_weights("resnet18", "imagenet", deadline_s=0.05)
    never.set()
    assert found.state is None
    assert "no answer" in found.note


def test_an_encoder_can_start_from_a_file(saved, tmp_path):
    from safetensors.torch import save_file
    from segmentation_models_pytorch.encoders import get_encoder

    state = get_encoder("resnet18", in_channels=3, weights=None).state_dict()
    path = tmp_path / "resnet18.safetensors"
    save_file(state | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}, path)
    stacked = replace(TINY, comparison=Comparison.STACKED, encoder_weights=str(path))
    model = RefSel(stacked)
    assert str(path) in model.encoder_weights_note
    assert torch.equal(model.unet.encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    half = state["conv1.weight"] / 2
    taken = model.unet.encoder.conv1.weight
    assert torch.allclose(taken[:, :3], half, atol=1e-6)
    assert torch.allclose(taken[:, 18:21], half, atol=1e-6)
    assert not taken[:, 3:18].any()
    folded = RefSel(replace(stacked, comparison=Comparison.SIAMESE, fold=2, working_size=64))
    taken = folded.unet.encoder.conv1.weight
    for pixel in range(4):
        assert torch.allclose(taken[:, pixel:12:4], state["conv1.weight"] / 4, atol=1e-6)


def test_a_timm_encoder_takes_the_names_of_timms_own_files(tmp_path):
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    path = tmp_path / "test_resnet.safetensors"
    save_file(state, path)
    model = RefSel(replace(TINY, encoder="tu-test_resnet", encoder_weights=str(path)))
    name = "layer1.0.conv1.weight"
    assert torch.equal(model.unet.encoder.state_dict()[f"model.{name}"], state[name])


def test_an_encoder_file_that_does_not_fit_is_an_error(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="do not fit resnet18"):
        RefSel(replace(TINY, encoder_weights=str(path)))
    with pytest.raises(ValueError, match="cannot be read"):
        RefSel(replace(TINY, encoder_weights=str(tmp_path / "nowhere.pth")))

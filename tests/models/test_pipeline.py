from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from models.arc2face import Arc2FacePrompt
from models.pipeline import RefStarPipeline
from models.prompts import PersonPrompt, PlainPrompt
from models.reference_features import ReferenceAttentionSettings
from models.refsel import CheckpointError, RefSel, RefSelConfig

SIGMAS = ReferenceAttentionSettings(position_sigmas=(0.5, 0.8))


@pytest.fixture
def make_pipeline(make_restorer, wake):
    def make(*, reference=True, refsel=False, **options):
        restorer = make_restorer(**options)
        if reference:
            restorer.add_reference()
        wake(restorer)
        chooser = RefSel(RefSelConfig(working_size=32)).eval() if refsel else None
        return RefStarPipeline(restorer, PlainPrompt(torch.randn(3, 8)), chooser)

    return make


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    mask = np.zeros((2, 32, 32), dtype=bool)
    mask[:, 8:24, 8:24] = True
    images = random.integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8)
    return images[0], images[1], mask


def _float_output(pipeline, pictures):
    image, reference, mask = (torch.from_numpy(np.asarray(one)) for one in pictures)
    degraded = image.permute(0, 3, 1, 2).float() / 255
    clean = reference.permute(0, 3, 1, 2).float() / 255
    usable = mask[:, None].float()
    return pipeline.restore(degraded, clean, usable)


@pytest.mark.parametrize("vae", [False, True])
@pytest.mark.parametrize("attention", [ReferenceAttentionSettings(), SIGMAS])
def test_saved_and_loaded_it_gives_the_same_bits(make_pipeline, pictures, tmp_path, vae, attention):
    pipeline = make_pipeline(vae=vae, attention=attention)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = RefStarPipeline.from_pretrained(tmp_path / "saved")
    assert loaded.restorer.config == pipeline.restorer.config
    assert torch.equal(_float_output(loaded, pictures), _float_output(pipeline, pictures))
    assert all(
        parameter.requires_grad for parameter in pipeline.restorer.unet.conv_out.lora_A.parameters()
    )
    assert np.array_equal(loaded(*pictures), pipeline(*pictures))
    assert np.array_equal(loaded(pictures[0]), pipeline(pictures[0]))


@pytest.mark.parametrize("options", [{"reference": False}, {"lora": None}, {"refsel": True}])
def test_what_a_pipeline_lacks_or_has_is_kept(make_pipeline, pictures, tmp_path, options):
    pipeline = make_pipeline(**options)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = RefStarPipeline.from_pretrained(tmp_path / "saved")
    given = pictures[:2] if "refsel" in options else pictures
    given = given[:1] if "reference" in options else given
    assert np.array_equal(loaded(*given), pipeline(*given))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert ("reference_net" in names) == ("reference" not in options)
    assert ("unet_lora" in names) == ("lora" not in options)
    assert ("refsel" in names) == ("refsel" in options)


def test_its_parts_load_with_diffusers_alone(make_pipeline, tmp_path):
    pipeline = make_pipeline(vae=True)
    pipeline.save_pretrained(tmp_path / "saved")
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "saved" / "unet", local_files_only=True)
    weight = pipeline.restorer.unet.conv_in.base_layer.weight
    assert torch.equal(unet.conv_in.weight, weight)
    AutoencoderKL.from_pretrained(tmp_path / "saved" / "vae", local_files_only=True)
    suffixes = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_one_image_is_restored_as_in_a_batch(make_pipeline, pictures):
    pipeline = make_pipeline()
    image, reference, mask = pictures
    batch = pipeline(image, reference, mask)
    assert batch.shape == (2, 32, 32, 3)
    assert batch.dtype == np.uint8
    one = pipeline(image[1], reference[1], mask[1])
    assert np.abs(one.astype(int) - batch[1]).max() <= 1


def test_refsel_chooses_where_no_mask_is_given(make_pipeline, pictures):
    pipeline = make_pipeline(refsel=True)
    image, reference, _ = pictures
    a, b = (torch.from_numpy(one).permute(0, 3, 1, 2).float() / 255 for one in (image, reference))
    with torch.inference_mode():
        mask = pipeline.refsel.probability(a, b) >= 0.5
    expected = pipeline(image, reference, mask.numpy())
    assert np.array_equal(pipeline(image, reference), expected)


def test_a_person_is_known_by_the_reference(make_restorer, wake, pictures, tmp_path):
    restorer = make_restorer()
    restorer.add_reference()
    wake(restorer)

    class Colours:
        """A stand-in for ArcFace: mean colours."""

        path = tmp_path / "arcface.onnx"

        def __call__(self, images):
            return torch.nn.functional.normalize(images.mean(dim=(2, 3)), dim=1)

    config = CLIPTextConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
    )
    prompt = Arc2FacePrompt(CLIPTextModel(config), [1, 2, 3, 4, 5, 5], position=2)
    pipeline = RefStarPipeline(restorer, PersonPrompt(prompt, Colours()))
    image, reference, mask = pictures
    nothing = np.zeros_like(mask)
    other = np.full_like(reference, 10)
    other[..., 0] = 250
    first, second = pipeline(image, reference, nothing), pipeline(image, other, nothing)
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="give a reference"):
        pipeline(image)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": np.zeros((32, 32), np.uint8)}, "image must be uint8"),
        ({"reference": np.zeros((2, 32, 32, 3), np.float32)}, "reference must be uint8"),
        ({"mask": np.zeros((2, 16, 16))}, "mask must be"),
        ({"mask": np.full((2, 32, 32), 255)}, "mask must be"),
        ({"mask": None}, "no RefSel"),
    ],
)
def test_what_does_not_fit_is_refused(make_pipeline, pictures, changes, said):
    given = dict(zip(("image", "reference", "mask"), pictures, strict=True)) | changes
    with pytest.raises(ValueError, match=said):
        make_pipeline()(**given)


def test_a_folder_with_something_else_in_it_is_left_alone(make_pipeline, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no pipeline"):
        make_pipeline().save_pretrained(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_save_that_fails_leaves_the_old_pipeline(make_pipeline, pictures, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    pipeline = make_pipeline()
    pipeline.save_pretrained(folder)
    other = make_pipeline(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(PlainPrompt, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            other.save_pretrained(folder)
    loaded = RefStarPipeline.from_pretrained(folder)
    assert np.array_equal(loaded(*pictures), pipeline(*pictures))
    other.save_pretrained(folder)
    loaded = RefStarPipeline.from_pretrained(folder)
    assert np.array_equal(loaded(*pictures), other(*pictures))
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_damaged_pipeline_says_what_is_wrong(make_pipeline, tmp_path):
    folder = tmp_path / "saved"
    with pytest.raises(CheckpointError, match=r"pipeline\.json cannot be read"):
        RefStarPipeline.from_pretrained(folder)
    make_pipeline().save_pretrained(folder)
    index = folder / "pipeline.json"
    said = json.loads(index.read_text())
    for wrong, message in (
        (said | {"format": 99}, "no pipeline of format"),
        (said | {"restorer": said["restorer"] | {"timestep": 5000}}, "timestep"),
        (said | {"restorer": said["restorer"] | {"more": 1}}, "not this version's"),
    ):
        index.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match=message):
            RefStarPipeline.from_pretrained(folder)
    index.write_text(json.dumps(said))
    (folder / "reference_net" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="reference_net"):
        RefStarPipeline.from_pretrained(folder)

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from models.autoencoder import LatentAutoencoder
from models.backbones import (
    TinyBackbone,
    clip_text_encoder,
    open_text_encoder,
    open_unet,
    open_vae,
    stable_diffusion_unet,
    stable_diffusion_vae,
    text_encoder_state,
)
from models.refsel import CheckpointError
from models.restorer import Phase, Restorer, RestorerConfig


def _count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_published_sizes_of_arc2face():
    with torch.device("meta"):
        unet, vae, encoder = stable_diffusion_unet(), stable_diffusion_vae(), clip_text_encoder()
    assert (_count(unet), len(unet.state_dict())) == (859_520_964, 686)
    assert (_count(vae), len(vae.state_dict())) == (83_653_863, 248)
    assert (_count(encoder), len(encoder.state_dict())) == (123_060_480, 196)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv_in.weight", (320, 4, 3, 3)),
        ("time_embedding.linear_1.weight", (1280, 320)),
        ("down_blocks.0.attentions.0.proj_in.weight", (320, 320, 1, 1)),
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.weight", (320, 320)),
        ("down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight", (1280, 768)),
        ("down_blocks.2.downsamplers.0.conv.weight", (1280, 1280, 3, 3)),
        ("mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", (10240, 1280)),
        ("up_blocks.1.resnets.2.conv_shortcut.weight", (1280, 1920, 1, 1)),
        ("up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0.bias", (320,)),
        ("conv_norm_out.bias", (320,)),
        ("conv_out.weight", (4, 320, 3, 3)),
    ],
)
def test_the_unets_published_names_and_shapes(name, shape):
    with torch.device("meta"):
        state = stable_diffusion_unet().state_dict()
    assert tuple(state[name].shape) == shape


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.conv_in.weight", (128, 3, 3, 3)),
        ("encoder.down_blocks.2.resnets.0.conv_shortcut.weight", (512, 256, 1, 1)),
        ("encoder.mid_block.attentions.0.group_norm.weight", (512,)),
        ("decoder.up_blocks.3.resnets.2.conv2.weight", (128, 128, 3, 3)),
        ("quant_conv.weight", (8, 8, 1, 1)),
        ("post_quant_conv.weight", (4, 4, 1, 1)),
    ],
)
def test_the_vaes_published_names_and_shapes(name, shape):
    with torch.device("meta"):
        state = stable_diffusion_vae().state_dict()
    assert tuple(state[name].shape) == shape


def test_the_text_encoders_published_names():
    with torch.device("meta"):
        names = set(text_encoder_state(clip_text_encoder()))
    expected = {
        "embeddings.token_embedding.weight",
        "embeddings.position_embedding.weight",
        "final_layer_norm.weight",
        "final_layer_norm.bias",
    }
    parts = [f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")]
    parts += ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
    for layer in range(12):
        for part in parts:
            expected |= {f"encoder.layers.{layer}.{part}.{end}" for end in ("weight", "bias")}
    assert names == {f"text_model.{name}" for name in expected}


def test_the_full_preset_on_no_memory_at_all():
    with torch.device("meta"):
        autoencoder = LatentAutoencoder(stable_diffusion_vae())
        restorer = Restorer(stable_diffusion_unet(), autoencoder, RestorerConfig())
        restorer.add_reference()
    assert restorer.stride == 64
    assert len(restorer.reference_attention) == 16
    assert {parameter.device.type for parameter in restorer.parameters()} == {"meta"}
    adapters = sum(p.numel() for p in restorer.trainable_parameters(Phase.ONE).values())
    assert adapters < 5_000_000
    reference = restorer.trainable_parameters(Phase.TWO).values()
    assert 850e6 < sum(p.numel() for p in reference) < 900e6


@pytest.mark.slow
def test_the_full_preset_restores_at_512_as_far_as_shapes_go():
    with torch.device("meta"):
        autoencoder = LatentAutoencoder(stable_diffusion_vae())
        restorer = Restorer(stable_diffusion_unet(), autoencoder, RestorerConfig())
        restorer.add_reference()
        restorer.prepare(Phase.TWO)
        image, mask = torch.rand(1, 3, 512, 512), torch.rand(1, 1, 512, 512)
        out = restorer(image, torch.rand(1, 77, 768), image, mask)
        out.square().mean().backward()
    assert out.shape == image.shape
    learning = restorer.trainable_parameters(Phase.TWO).values()
    assert all(parameter.grad is not None for parameter in learning)


def _tiny_text():
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    return CLIPTextModel(config).eval()


@pytest.mark.parametrize("prefix", ["text_model.", ""])
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_text_encoder_opens_under_either_naming(tmp_path, prefix, kind):
    model = _tiny_text()
    model.config.to_json_file(tmp_path / "config.json")
    state = {
        prefix + name.removeprefix("text_model."): tensor
        for name, tensor in text_encoder_state(model).items()
    }
    state[f"{prefix}embeddings.position_ids"] = torch.arange(8)[None]
    save = save_file if kind.endswith("safetensors") else torch.save
    save(state, tmp_path / kind)
    opened = open_text_encoder(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(opened(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_text_encoder_of_another_size_is_refused(tmp_path):
    model = _tiny_text()
    model.config.num_hidden_layers = 3
    model.config.to_json_file(tmp_path / "config.json")
    save_file(text_encoder_state(model), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit CLIPTextModel"):
        open_text_encoder(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_text_encoder(tmp_path / "nowhere")


def test_diffusers_folders_open_whole_or_not_at_all(tmp_path):
    unet = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8).unet()
    unet.save_pretrained(tmp_path)
    opened = open_unet(tmp_path)
    assert isinstance(opened, UNet2DConditionModel)
    assert all(torch.equal(t, unet.state_dict()[n]) for n, t in opened.state_dict().items())
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["conv_out.bias"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"1 missing \(conv_out\.bias\)"):
        open_unet(tmp_path)


def test_weights_of_another_width_or_a_missing_folder_are_refused(tmp_path):
    unet = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8).unet()
    unet.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"cross_attention_dim": 16}))
    with pytest.raises(CheckpointError, match="cannot be loaded as UNet2DConditionModel"):
        open_unet(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        open_vae(tmp_path / "nowhere")


def test_a_vae_opens_under_its_old_attention_names(tmp_path):
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    vae.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {
        "to_q.": "query.",
        "to_k.": "key.",
        "to_v.": "value.",
        "to_out.0.": "proj_attn.",
    }
    state = {}
    for name, tensor in load_file(path).items():
        for new, before in old.items():
            name = name.replace(new, before)  # noqa: PLW2901
        state[name] = tensor
    assert any("proj_attn" in name for name in state)
    save_file(state, path, metadata={"format": "pt"})
    opened = open_vae(tmp_path)
    assert opened.factor == 2
    assert all(torch.equal(t, vae.state_dict()[n]) for n, t in opened.vae.state_dict().items())

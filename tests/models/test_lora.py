from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel

from models.lora import LoraSettings, base_state, effective_weight, load_adapter, save_adapter
from models.refsel import CheckpointError


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_saved_adapter_loads_with_peft_alone(make_restorer, wake, faces, tmp_path, part):
    restorer = make_restorer(vae=True)
    wake(restorer)
    model = restorer.unet if part == "unet" else restorer.autoencoder.vae
    save_adapter(model, tmp_path)
    base = make_restorer(vae=True, lora=None)
    plain = base.unet if part == "unet" else base.autoencoder.vae
    with torch.no_grad():
        before = (
            plain(
                base.autoencoder.encode_reference(faces["reference"]), 250, faces["prompt"]
            ).sample
            if part == "unet"
            else plain.encode(faces["degraded"]).latent_dist.mean
        )
    loaded = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    with torch.no_grad():
        if part == "unet":
            latent = restorer.autoencoder.encode_reference(faces["reference"])
            ours = model(latent, 250, faces["prompt"]).sample
            theirs = loaded(latent, 250, faces["prompt"]).sample
        else:
            ours = model.encode(faces["degraded"]).latent_dist.mean
            theirs = loaded.encode(faces["degraded"]).latent_dist.mean
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, before, atol=1e-2)


def test_what_was_saved_is_what_is_loaded(make_restorer, wake, faces, tmp_path):
    first, second = make_restorer(seed=0), make_restorer(seed=0)
    wake(first)
    save_adapter(first.unet, tmp_path)
    given = {name: faces[name] for name in ("degraded", "prompt")}
    with torch.no_grad():
        assert not torch.equal(first(**given), second(**given))
        load_adapter(second.unet, tmp_path)
        assert torch.equal(first(**given), second(**given))


def test_the_base_model_keeps_its_names_and_tensors(make_restorer):
    wrapped, plain = make_restorer().unet, make_restorer(lora=None).unet
    state = base_state(wrapped)
    assert list(state) == list(plain.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())


def test_only_the_encoder_of_a_vae_gets_adapters(make_restorer):
    vae = make_restorer(vae=True).autoencoder.vae
    adapted = {n.split(".lora_")[0] for n, _ in vae.named_parameters() if ".lora_" in n}
    assert "quant_conv" in adapted
    assert "encoder.mid_block.attentions.0.to_out.0" in adapted
    assert all(name.startswith(("encoder.", "quant_conv")) for name in adapted)


def test_the_weight_that_a_linear_layer_has_in_effect(make_restorer, wake):
    restorer = make_restorer()
    wake(restorer)
    layer = restorer.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_k
    x = torch.randn(3, 16)
    assert torch.allclose(layer(x), x @ effective_weight(layer).T, atol=1e-5)


def test_an_adapter_of_another_rank_is_refused(make_restorer, tmp_path):
    save_adapter(make_restorer(lora=LoraSettings(rank=3)).unet, tmp_path)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_adapter(make_restorer().unet, tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(make_restorer().unet, tmp_path / "elsewhere")


def test_targets_that_no_module_has_are_refused(make_restorer):
    with pytest.raises(ValueError, match="to_nothing"):
        make_restorer(lora=LoraSettings(unet_targets=("to_nothing",)))
    with pytest.raises(ValueError, match="rank"):
        LoraSettings(rank=0)


def test_the_saved_settings_name_no_place_on_this_machine(make_restorer, tmp_path):
    save_adapter(make_restorer().unet, tmp_path)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert said["peft_type"] == "LORA"
    assert said["r"] == 2
    assert not said["base_model_name_or_path"]

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from models.autoencoder import PixelUnshuffle
from models.reference_features import AttentionForm, ReferenceAttentionSettings
from models.reference_net import ReferenceNet
from models.restorer import NoiseSchedule, Phase, Restorer, RestorerConfig

BOTH = pytest.mark.parametrize("vae", [False, True])


def _without_reference(faces):
    return {name: faces[name] for name in ("degraded", "prompt")}


def test_the_closed_form_is_diffusers_own(make_restorer, faces):
    restorer = make_restorer(lora=None)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    z = restorer.autoencoder.encode(faces["degraded"])
    with torch.no_grad():
        noise = restorer.unet(z, 250, faces["prompt"]).sample
        clean = scheduler.step(noise, 250, z).pred_original_sample
        expected = restorer.autoencoder.decode(clean)
        assert torch.allclose(restorer(**_without_reference(faces)), expected, atol=1e-5)


def test_the_noise_schedule_is_stable_diffusions():
    kept = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).alphas_cumprod
    for timestep in (0, 250, 999):
        assert NoiseSchedule().kept(timestep) == pytest.approx(float(kept[timestep]), rel=1e-4)


@BOTH
def test_phase_two_begins_exactly_at_phase_one(make_restorer, wake, faces, vae):
    restorer = make_restorer(vae=vae)
    wake(restorer)
    first = restorer(**_without_reference(faces))
    restorer.add_reference()
    assert torch.equal(restorer(**_without_reference(faces)), first)
    assert torch.equal(restorer(**faces), first)


def test_adapters_begin_at_the_base_models_function(make_restorer, faces):
    with_lora = make_restorer(vae=True).requires_grad_(False)
    without = make_restorer(vae=True, lora=None).requires_grad_(False)
    given = _without_reference(faces)
    assert torch.equal(with_lora(**given), without(**given))


@BOTH
@pytest.mark.parametrize("form", list(AttentionForm))
def test_with_an_all_zero_mask_the_references_pixels_change_no_bit(
    make_restorer, wake, faces, vae, form
):
    restorer = make_restorer(vae=vae, attention=ReferenceAttentionSettings(form))
    restorer.add_reference()
    wake(restorer)
    faces["mask"] = torch.zeros_like(faces["mask"])
    first = restorer(**faces)
    assert torch.isfinite(first).all()
    faces["reference"] = 1 - faces["reference"]
    assert torch.equal(restorer(**faces), first)
    if form is AttentionForm.DECOUPLED:
        assert torch.equal(restorer(**_without_reference(faces)), first)


def test_only_what_the_mask_keeps_of_the_reference_matters(make_restorer, wake, faces):
    restorer = make_restorer()
    restorer.add_reference()
    wake(restorer)
    first = restorer(**faces)
    other = faces["reference"].flip(0)
    outside = torch.where(faces["mask"] > 0, faces["reference"], other)
    inside = torch.where(faces["mask"] > 0, other, faces["reference"])
    assert torch.equal(restorer(**faces | {"reference": outside}), first)
    assert not torch.allclose(restorer(**faces | {"reference": inside}), first, atol=1e-4)


@BOTH
@pytest.mark.parametrize("phase", [Phase.ONE, Phase.TWO])
def test_exactly_the_phases_parameters_learn(make_restorer, wake, faces, vae, phase):
    restorer = make_restorer(vae=vae)
    restorer.add_reference()
    wake(restorer)
    chosen = restorer.prepare(phase)
    before = {name: tensor.clone() for name, tensor in restorer.named_parameters()}
    optimiser = torch.optim.SGD(chosen, lr=100.0)
    given = faces if phase is Phase.TWO else _without_reference(faces)
    restorer(**given).square().mean().backward()
    optimiser.step()
    moved = {n for n, p in restorer.named_parameters() if not torch.equal(p, before[n])}
    # All its tokens being the same, a prompt's keys may have no gradient worth a step.
    still = {name for name in restorer.trainable_parameters(phase) if name not in moved}
    assert moved <= set(restorer.trainable_parameters(phase))
    assert not {name for name in still if "attn2" not in name}
    if phase is Phase.ONE:
        assert all(".lora_" in name for name in moved)
        assert any(name.startswith("autoencoder.vae.encoder") for name in moved) == vae
        assert not any("decoder" in name or "clean" in name for name in moved)
    else:
        assert all(n.startswith(("reference_net.", "reference_attention.")) for n in moved)


def test_from_scratch_phase_one_trains_the_networks_themselves(make_restorer):
    restorer = make_restorer(lora=None)
    restorer.add_reference()
    names = restorer.trainable_parameters(Phase.ONE)
    assert set(names) == {n for n, _ in restorer.named_parameters() if n.startswith("unet.")}


def test_nothing_of_the_restorer_learns_in_phase_three_but_the_mask_gets_a_gradient(
    make_restorer, wake, faces
):
    restorer = make_restorer(vae=True)
    restorer.add_reference()
    wake(restorer)
    assert restorer.prepare(Phase.THREE) == []
    faces["mask"] = torch.full_like(faces["mask"], 0.5).requires_grad_()
    restorer(**faces).square().mean().backward()
    assert torch.isfinite(faces["mask"].grad).all()
    assert faces["mask"].grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in restorer.parameters())


def _gradients(restorer, faces, *, recompute=False):
    restorer.zero_grad()
    inputs = {
        name: faces[name].clone().requires_grad_() for name in ("degraded", "reference", "mask")
    }
    out = restorer(prompt=faces["prompt"], recompute=recompute, **inputs)
    out.square().mean().backward()
    found = {name: p.grad.clone() for name, p in restorer.named_parameters() if p.requires_grad}
    return out, found | {name: tensor.grad for name, tensor in inputs.items()}


@BOTH
@pytest.mark.parametrize("recompute", [False, True])
def test_checkpointing_gives_equal_gradients(make_restorer, wake, faces, vae, recompute):
    restorer = make_restorer(vae=vae)
    restorer.add_reference()
    wake(restorer)
    restorer.prepare(Phase.TWO)
    plain, expected = _gradients(restorer, faces)
    restorer.enable_gradient_checkpointing()
    out, found = _gradients(restorer, faces, recompute=recompute)
    assert torch.equal(out, plain)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert all(grad.abs().sum() > 0 for name, grad in found.items() if "attn2.to_" not in name)


def test_checkpointing_keeps_two_passes_apart(make_restorer, wake, faces):
    restorer = make_restorer()
    restorer.add_reference()
    wake(restorer)
    restorer.prepare(Phase.TWO)

    def both():
        restorer.zero_grad()
        first = restorer(**faces)
        second = restorer(
            faces["reference"], faces["prompt"], first, torch.ones_like(faces["mask"])
        )
        second.square().mean().backward()
        return [p.grad.clone() for p in restorer.trainable_parameters(Phase.TWO).values()]

    expected = both()
    restorer.enable_gradient_checkpointing()
    assert all(torch.equal(a, b) for a, b in zip(both(), expected, strict=True))


def test_the_reference_net_starts_as_the_base_and_stops_after_its_last_self_attention(
    make_restorer, wake, faces
):
    restorer = make_restorer()
    wake(restorer)
    base = make_restorer(lora=None)
    net = ReferenceNet.copy_of(restorer.unet)
    seen = {}
    for layer in net.layers:
        base.unet.get_submodule(layer).register_forward_pre_hook(
            lambda _, args, layer=layer: seen.setdefault(layer, args[0])
        )
    latent = restorer.autoencoder.encode_reference(faces["reference"])
    base.unet(latent, 0, faces["prompt"])
    bank = net(latent, 0, faces["prompt"])
    assert list(bank) == list(seen)
    assert all(torch.equal(bank[layer], seen[layer]) for layer in bank)
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in base.unet.parameters())


def test_a_copy_reads_its_own_projections(make_restorer, wake, faces):
    restorer = make_restorer()
    restorer.add_reference()
    wake(restorer)
    twin = copy.deepcopy(restorer)
    first = restorer(**faces)
    assert torch.equal(twin(**faces), first)
    for parameter in twin.reference_attention.parameters():
        parameter.data.zero_()
    assert torch.equal(restorer(**faces), first)
    assert torch.equal(twin(**faces), twin(**_without_reference(faces)))


def test_blocks_after_the_last_self_attention_are_not_run():
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
    )
    net = ReferenceNet.copy_of(unet)
    assert len(net.unet.up_blocks) == 1
    bank = net(torch.randn(1, 4, 8, 8), 0, torch.randn(1, 2, 8))
    sum(states.square().sum() for states in bank.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_bfloat16_gives_no_nan(make_restorer, wake, faces):
    restorer = make_restorer(vae=True)
    restorer.add_reference()
    wake(restorer)
    restorer.prepare(Phase.TWO)
    faces["mask"][0] = 0
    with torch.autocast("cpu", torch.bfloat16):
        out = restorer(**faces)
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    for parameter in restorer.trainable_parameters(Phase.TWO).values():
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"degraded": torch.zeros(2, 3, 36, 32)}, "divide by 8"),
        ({"mask": None}, "together"),
        ({"reference": torch.zeros(2, 3, 64, 64)}, "shape of degraded"),
        ({"mask": torch.zeros(2, 32, 32)}, "mask must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make_restorer, faces, changes, said):
    restorer = make_restorer()
    restorer.add_reference()
    with pytest.raises(ValueError, match=said):
        restorer(**faces | changes)


def test_a_reference_before_phase_two_is_refused(make_restorer, faces):
    restorer = make_restorer()
    with pytest.raises(ValueError, match="add_reference"):
        restorer(**faces)
    with pytest.raises(ValueError, match="add_reference"):
        restorer.prepare(Phase.TWO)


def test_networks_of_two_models_are_refused(make_restorer):
    with pytest.raises(ValueError, match="of one model"):
        Restorer(make_restorer(lora=None).unet, PixelUnshuffle(8), RestorerConfig())
    with pytest.raises(ValueError, match="timestep"):
        RestorerConfig(timestep=1000)
    three = ReferenceAttentionSettings(position_sigmas=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="3 position_sigmas"):
        make_restorer(attention=three).add_reference()

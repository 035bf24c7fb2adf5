from __future__ import annotations

import pytest
import torch

from models.backbones import TinyBackbone
from models.lora import LoraSettings
from models.restorer import Phase, Restorer, RestorerConfig
from restoration.losses import CycleWeights, LossNetworks, cycle_loss
from restoration.passes import two_passes

BACKBONE = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8)
BLANK = torch.zeros(1)
L1 = CycleWeights(perceptual=0, identity=0)


@pytest.fixture
def restorer():
    torch.manual_seed(0)
    config = RestorerConfig(timestep=250, lora=LoraSettings(rank=2))
    made = Restorer(BACKBONE.unet(), BACKBONE.autoencoder(), config)
    made.add_reference()
    for name, parameter in made.named_parameters():
        if name.startswith("reference_attention") and ".to_out." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    made.prepare(Phase.TWO)
    return made


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24] = 1
    images = torch.rand(3, 2, 3, 32, 32, generator=generator)
    return {
        "degraded": images[0],
        "prompt": torch.randn(2, 3, 8, generator=generator),
        "reference": images[1],
        "mask": mask,
        "degraded_reference": images[2],
    }


def _half(degraded, shown):
    assert not shown.requires_grad
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
    return (torch.arange(32) < 16).float().expand(len(degraded), 1, 32, 32)


def _gradients(restorer):
    return [p.grad.clone() for p in restorer.trainable_parameters(Phase.TWO).values()]


def test_the_cycle_pass_is_the_same_restorer_with_the_parts_exchanged(restorer, batch):
    both = two_passes(restorer, **batch, choose_mask=_half)
    image = restorer(*(batch[name] for name in ("degraded", "prompt", "reference", "mask")))
    cycle_mask = (torch.arange(32) < 16).float().expand(2, 1, 32, 32)
    rebuilt = restorer(batch["degraded_reference"], batch["prompt"], image, cycle_mask)
    assert torch.equal(both.image, image)
    assert torch.equal(both.rebuilt, rebuilt)


def test_the_cycle_loss_reaches_the_restorer_through_what_it_restored(restorer, batch):
    both = two_passes(restorer, **batch, choose_mask=_half)
    both.image.retain_grad()
    loss = cycle_loss(both.rebuilt, batch["reference"], batch["mask"], L1, LossNetworks())
    loss.total.backward()
    assert both.image.grad.abs().sum() > 0
    through = _gradients(restorer)
    # With I_out cut off the gradient is another one.
    restorer.zero_grad()
    cut = restorer(
        batch["degraded_reference"],
        batch["prompt"],
        both.image.detach(),
        _half(both.image, BLANK),
    )
    cycle_loss(cut, batch["reference"], batch["mask"], L1, LossNetworks()).total.backward()
    alone = _gradients(restorer)
    assert any(not torch.allclose(a, b, atol=1e-7) for a, b in zip(through, alone, strict=True))


@pytest.mark.parametrize("recompute", [False, True])
def test_running_the_first_pass_again_changes_no_gradient(restorer, batch, recompute):
    both = two_passes(restorer, **batch, choose_mask=_half, recompute=recompute)
    (both.image.square().mean() + both.rebuilt.square().mean()).backward()
    found = _gradients(restorer)
    restorer.zero_grad()
    image = restorer(*(batch[name] for name in ("degraded", "prompt", "reference", "mask")))
    rebuilt = restorer(batch["degraded_reference"], batch["prompt"], image, _half(image, BLANK))
    (image.square().mean() + rebuilt.square().mean()).backward()
    assert all(torch.equal(a, b) for a, b in zip(found, _gradients(restorer), strict=True))


def _kept(restorer, batch, *, cycle):
    """Bytes that are kept for the backward pass after the forward passes."""
    seen = {}

    def keep(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    given = batch if cycle else {k: v for k, v in batch.items() if k != "degraded_reference"}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        passes = two_passes(restorer, **given, choose_mask=_half)
        (passes.rebuilt if cycle else passes.image).mean()
    return sum(seen.values())


def test_two_passes_keep_no_more_than_one(restorer, batch):
    one, two = (_kept(restorer, batch, cycle=cycle) for cycle in (False, True))
    assert two < 1.1 * one


def test_without_a_degraded_reference_there_is_no_cycle(restorer, batch):
    del batch["degraded_reference"]
    assert two_passes(restorer, **batch).rebuilt is None


def test_a_cycle_without_a_mask_is_refused(restorer, batch):
    with pytest.raises(ValueError, match="RefSel"):
        two_passes(restorer, **batch)

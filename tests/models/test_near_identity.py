from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.backbones import TinyBackbone
from models.reference_net import ReferenceNet

TINY = TinyBackbone(image_size=32, widths=(64, 64), heads=4)


def _explained(unet: UNet2DConditionModel) -> float:
    """Share of the tokens' pixels that a linear map finds in the first bank of the same token."""
    torch.manual_seed(1)
    latent = torch.rand(24, 48, 8, 8) * 2 - 1
    with torch.no_grad():
        banks = ReferenceNet.copy_of(unet)(latent, 0, TINY.prompt().expand(24, 1, -1))
    bank = next(iter(banks.values()))
    pixels = latent.flatten(2).transpose(1, 2).reshape(-1, 48)
    seen = torch.cat([bank.reshape(-1, 64), torch.ones(len(pixels), 1)], dim=1)
    half = len(seen) // 2
    found = torch.linalg.lstsq(seen[:half], pixels[:half]).solution
    wrong: Tensor = (pixels[half:] - seen[half:] @ found).square().sum()
    return 1 - float(wrong / pixels[half:].square().sum())


@pytest.fixture
def plain() -> UNet2DConditionModel:
    with torch.device("meta"):
        empty = TINY.unet()
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config(empty.config)


def test_the_bank_of_a_token_shows_its_pixels(plain):
    torch.manual_seed(0)
    assert _explained(TINY.unet()) > 0.8 > 2 * _explained(plain)


def test_every_parameter_still_learns():
    torch.manual_seed(0)
    unet = TINY.unet()
    optimiser = torch.optim.Adam(unet.parameters(), 0.01)
    prompt = torch.ones(2, 1, TINY.prompt_width)
    before = {name: parameter.clone() for name, parameter in unet.named_parameters()}
    for _ in range(3):
        optimiser.zero_grad()
        unet(torch.rand(2, 48, 8, 8), 100, prompt).sample.square().mean().backward()
        optimiser.step()
    still = {
        name for name, parameter in unet.named_parameters() if torch.equal(parameter, before[name])
    }
    # With one prompt token its attention is always 1, whatever queries and keys are.
    assert not {name for name in still if "attn2.to_q" not in name and "attn2.to_k" not in name}


def test_the_same_seed_gives_the_same_start():
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(TINY.unet().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.refsel_inputs import RELIEF_CHANNELS, encoder_input


def _noise(contrast: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.5 + contrast * (torch.rand(1, 3, 32, 32, generator=generator) - 0.5)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_squares_become_channels_with_the_relief_behind_them(fold):
    image = _noise(0.2)
    seen = encoder_input(image, fold)
    assert seen.shape == (1, 3 * fold**2 + RELIEF_CHANNELS, 32 // fold, 32 // fold)
    colours = functional.pixel_shuffle(seen[:, :-RELIEF_CHANNELS], fold)
    # every colour is a multiple of the image's, less the same constant
    assert torch.allclose(colours + 2.5, image * (colours + 2.5)[..., :1, :1] / image[..., :1, :1])


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_relief_grows_with_fine_contrast_and_is_none_on_a_plain_image(fold):
    plain, faint, strong = (
        encoder_input(_noise(c), fold)[:, -RELIEF_CHANNELS:].mean(dim=(0, 2, 3))
        for c in (0, 0.1, 0.2)
    )
    assert torch.allclose(plain, torch.zeros(RELIEF_CHANNELS), atol=1e-4)
    assert (faint > 0.05).all()
    assert torch.allclose(strong / faint, torch.full((RELIEF_CHANNELS,), 2.0), rtol=0.05)


def test_the_first_band_of_relief_is_the_finer():
    fine = torch.full((1, 3, 32, 32), 0.5)
    fine[..., ::2, ::2] += 0.1
    coarse = torch.full((1, 3, 32, 32), 0.5)
    coarse[..., (torch.arange(32) // 2) % 2 == 0, :] += 0.1
    fine_relief, coarse_relief = (
        encoder_input(image, 2)[:, -RELIEF_CHANNELS:].mean(dim=(0, 2, 3))
        for image in (fine, coarse)
    )
    assert fine_relief[0] > 10 * fine_relief[1]
    assert coarse_relief[1] > 10 * coarse_relief[0]

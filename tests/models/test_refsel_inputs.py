from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.refsel_inputs import RELIEF_CHANNELS, Stem, relative_colours

FINE = slice(-RELIEF_CHANNELS, -3)
COARSE = slice(-3, None)


def _noise(contrast: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.5 + contrast * (torch.rand(1, 3, 32, 32, generator=generator) - 0.5)


@torch.no_grad()
def _seen(image: torch.Tensor, fold: int) -> torch.Tensor:
    return Stem(fold)(relative_colours([image]))


def _relief(image: torch.Tensor, fold: int) -> tuple[float, float]:
    """Means of the finer and of the coarser band."""
    seen = _seen(image, fold)
    return float(seen[:, FINE].mean()), float(seen[:, COARSE].mean())


def test_colours_are_relative_to_the_middle_of_the_face():
    image = _noise(0.2)
    relative = relative_colours([image])
    # every colour is a multiple of the image's
    ratio = relative / image
    assert torch.allclose(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert torch.allclose(relative_colours([0.5 * image]), relative, atol=0.06)
    assert torch.isfinite(relative_colours([torch.zeros(1, 3, 32, 32)])).all()


@pytest.mark.parametrize("fold", [1, 2, 4, 8])
def test_squares_become_channels_with_the_relief_behind_them(fold):
    image = _noise(0.2)
    seen = _seen(image, fold)
    assert seen.shape == (1, 3 * fold**2 + RELIEF_CHANNELS, 32 // fold, 32 // fold)
    assert seen.shape[1] == Stem(fold).out_channels
    colours = functional.pixel_shuffle(seen[:, :-RELIEF_CHANNELS], fold)
    assert torch.allclose(colours / 2.5 + 1, relative_colours([image]), atol=1e-6)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_relief_grows_with_fine_contrast_and_is_none_on_a_plain_image(fold):
    plain, faint, strong = (_relief(_noise(contrast), fold) for contrast in (0, 0.1, 0.2))
    assert plain == pytest.approx((0, 0), abs=1e-5)
    assert min(faint) > 0.05
    assert [a / b for a, b in zip(strong, faint, strict=True)] == pytest.approx([2, 2], rel=0.05)


def test_the_first_band_of_relief_is_the_finer():
    fine = torch.full((1, 3, 32, 32), 0.5)
    fine[..., ::2, ::2] += 0.1
    coarse = torch.full((1, 3, 32, 32), 0.5)
    coarse[..., (torch.arange(32) // 2) % 2 == 0, :] += 0.1
    of_fine, of_coarse = _relief(fine, 4), _relief(coarse, 4)
    assert of_fine[0] > 10 * of_fine[1]
    assert of_coarse[1] > 10 * of_coarse[0]


def test_noise_of_a_dark_image_is_no_louder_than_relief():
    assert _seen(_noise(1.0) * 0.01, 4)[:, -RELIEF_CHANNELS:].max() <= 5

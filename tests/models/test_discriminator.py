from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from models.discriminator import UNetDiscriminator, discriminator_loss, generator_loss


def test_the_published_size():
    assert sum(p.numel() for p in UNetDiscriminator().parameters()) == 4_376_897


def test_it_judges_every_pixel():
    assert UNetDiscriminator(width=4)(torch.rand(2, 3, 32, 40)).shape == (2, 1, 32, 40)


def test_its_inner_convolutions_have_a_spectral_norm_of_one():
    torch.manual_seed(0)
    network = UNetDiscriminator(width=4)
    for _ in range(30):
        network(torch.rand(1, 3, 16, 16))
    network.eval()
    normalised = [*network.down, *network.up, *network.last]
    assert len(normalised) == 8
    for convolution in normalised:
        largest = torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), ord=2)
        assert float(largest) == pytest.approx(1.0, abs=0.02)


def test_two_passes_before_a_backward_pass_are_allowed():
    network = UNetDiscriminator(width=4)
    real, restored = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    discriminator_loss(network(real), network(restored)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_losses_are_binary_cross_entropy():
    real, restored = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    bce = functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones_like(real)) + bce(restored, torch.zeros_like(restored))
    assert torch.allclose(discriminator_loss(real, restored), expected, atol=1e-6)
    expected = bce(restored, torch.ones_like(restored))
    assert torch.allclose(generator_loss(restored), expected, atol=1e-6)
    assert float(generator_loss(torch.zeros(1))) == pytest.approx(math.log(2))

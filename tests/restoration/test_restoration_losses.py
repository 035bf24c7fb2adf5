from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from restoration.losses import (
    CycleWeights,
    GroundTruthWeights,
    LossNetworks,
    LossWeights,
    cycle_loss,
    ground_truth_loss,
    total_loss,
)


def _perceptual(images, target):
    """A stand-in for VGG19: squared distance of shrunken images."""
    return (functional.avg_pool2d(images, 4) - functional.avg_pool2d(target, 4)).square().mean()


def _identity(images):
    """A stand-in for ArcFace: a coarse picture as a unit vector."""
    return functional.normalize(functional.avg_pool2d(images, 4).flatten(1) + 1e-3, dim=1)


NETWORKS = LossNetworks(_perceptual, _identity)


def _images(seed):
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def _mask():
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 4:12, 2:9] = 1
    return mask


def test_the_defaults_are_the_papers():
    weights = LossWeights()
    assert (weights.ground_truth, weights.cycle) == (1, 1.5)
    assert vars(weights.in_ground_truth) == {
        "l1": 1,
        "perceptual": 1,
        "identity": 1.2,
        "adversarial": 0.2,
    }
    assert vars(weights.in_cycle) == {"l1": 1, "perceptual": 0.8, "identity": 1.2}


def test_equation_6():
    out, truth, logits = _images(0), _images(1), torch.randn(2, 1, 16, 16)
    loss = ground_truth_loss(out, truth, GroundTruthWeights(), NETWORKS, logits)
    identity = (1 - (_identity(out) * _identity(truth)).sum(dim=1)).mean()
    adversarial = functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    parts = {
        "l1": (out - truth).abs().mean(),
        "perceptual": _perceptual(out, truth),
        "identity": identity,
        "adversarial": adversarial,
    }
    expected = (
        parts["l1"] + parts["perceptual"] + 1.2 * parts["identity"] + 0.2 * parts["adversarial"]
    )
    assert torch.allclose(loss.total, expected, atol=1e-6)
    assert loss.terms.keys() == parts.keys()
    assert all(torch.allclose(loss.terms[name], parts[name], atol=1e-6) for name in parts)


def test_equation_5():
    rebuilt, reference, mask = _images(0), _images(1), _mask()
    loss = cycle_loss(rebuilt, reference, mask, CycleWeights(), NETWORKS)
    a, b = rebuilt * mask, reference * mask
    expected = (
        (a - b).abs().mean()
        + 0.8 * _perceptual(a, b)
        + 1.2 * (1 - (_identity(a) * _identity(b)).sum(dim=1)).mean()
    )
    assert torch.allclose(loss.total, expected, atol=1e-6)


def test_equation_7():
    weights = LossWeights()
    networks = NETWORKS
    first = ground_truth_loss(
        _images(0), _images(1), weights.in_ground_truth, networks, torch.zeros(2, 1, 16, 16)
    )
    second = cycle_loss(_images(2), _images(3), _mask(), weights.in_cycle, networks)
    both = total_loss(first, second, weights)
    assert torch.allclose(both.total, first.total + 1.5 * second.total)
    assert {"gt/l1", "gt/adversarial", "cycle/identity", "total"} <= set(both.terms)
    assert torch.equal(total_loss(first, None, weights).total, first.total)


def test_the_cycle_loss_ignores_what_lies_outside_the_mask():
    mask, reference = _mask(), _images(1)
    rebuilt = _images(0).requires_grad_()
    other = torch.where(mask > 0, rebuilt.detach(), 5.0)
    loss = cycle_loss(rebuilt, reference, mask, CycleWeights(), NETWORKS)
    again = cycle_loss(other, reference, mask, CycleWeights(), NETWORKS)
    changed = torch.where(mask > 0, reference, -3.0)
    third = cycle_loss(rebuilt, changed, mask, CycleWeights(), NETWORKS)
    assert torch.equal(loss.total, again.total)
    assert torch.equal(loss.total, third.total)
    loss.total.backward()
    assert rebuilt.grad is not None
    assert torch.equal(rebuilt.grad * (1 - mask), torch.zeros_like(rebuilt))
    assert (rebuilt.grad * mask).abs().sum() > 0


def test_an_empty_mask_costs_nothing_and_gives_no_nan():
    rebuilt = _images(0).requires_grad_()
    loss = cycle_loss(rebuilt, _images(1), torch.zeros(2, 1, 16, 16), CycleWeights(), NETWORKS)
    loss.total.backward()
    assert float(loss.total.detach()) == pytest.approx(0.0, abs=1e-6)
    assert rebuilt.grad is not None
    assert torch.isfinite(rebuilt.grad).all()


def test_a_term_without_weight_needs_no_network():
    weights = GroundTruthWeights(perceptual=0, identity=0, adversarial=0)
    loss = ground_truth_loss(_images(0), _images(1), weights, LossNetworks())
    assert torch.allclose(loss.total, (_images(0) - _images(1)).abs().mean())
    assert set(loss.terms) == {"l1"}


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        (LossNetworks(None, _identity), "VGG19"),
        (LossNetworks(_perceptual, None), "ArcFace"),
        (NETWORKS, "logits"),
    ],
)
def test_a_term_whose_network_is_missing_is_refused(networks, said):
    with pytest.raises(ValueError, match=said):
        ground_truth_loss(_images(0), _images(1), GroundTruthWeights(), networks)


def test_bfloat16_images_are_summed_in_float32():
    weights = GroundTruthWeights(adversarial=0)
    loss = ground_truth_loss(_images(0).bfloat16(), _images(1), weights, NETWORKS)
    assert loss.total.dtype == torch.float32


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="negative"):
        LossWeights(in_cycle=CycleWeights(identity=-1))

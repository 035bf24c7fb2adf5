from __future__ import annotations

import math

import pytest
import torch

from models.losses import ohem_cross_entropy, selection_loss
from models.refsel import Judgement


def _plain(logits, target, valid, weight, *, threshold, min_kept):
    losses = []
    for b in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                if not valid[b, y, x]:
                    continue
                exps = [math.exp(float(v)) for v in logits[b, :, y, x]]
                loss = -math.log(exps[int(target[b, y, x])] / sum(exps))
                losses.append((loss, float(weight[b, y, x])))
    tau = -math.log(threshold)
    hard = [one for one in losses if one[0] > tau]
    fewest = max(1, math.floor(min_kept * len(losses)))
    if len(hard) < fewest:
        hard = sorted(losses, reverse=True)[:fewest]
    return sum(loss * w for loss, w in hard) / sum(w for _, w in hard)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("min_kept", [0.0, 1 / 16, 0.9])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_equals_a_plain_loop(scale, threshold, min_kept, weighted):
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 2, (2, 6, 7), generator=generator)
    logits = torch.randn(2, 2, 6, 7, generator=generator) * 0.5
    logits[:, 1] += scale * (target * 2 - 1)
    valid = torch.rand(2, 6, 7, generator=generator) > 0.3
    weight = torch.rand(2, 6, 7, generator=generator) + 0.5 if weighted else None
    ours = ohem_cross_entropy(
        logits, target, valid, threshold=threshold, min_kept=min_kept, weight=weight
    )
    expected = _plain(
        logits,
        target,
        valid,
        weight if weighted else torch.ones(2, 6, 7),
        threshold=threshold,
        min_kept=min_kept,
    )
    assert float(ours) == pytest.approx(expected, rel=1e-4)


def test_only_hard_pixels_get_a_gradient():
    logits = torch.tensor([[[[5.0, 0.0]], [[-5.0, 0.0]]]], requires_grad=True)
    target = torch.tensor([[[0, 1]]])
    ohem_cross_entropy(logits, target).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[..., 0], torch.zeros(1, 2, 1))
    assert logits.grad[..., 1].abs().sum() > 0


def test_an_easy_batch_still_averages_over_its_hardest_pixels():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 8.0
    logits[0, 1, 0, 0] = 4.0
    loss = ohem_cross_entropy(logits, torch.ones(1, 4, 4, dtype=torch.bool))
    assert float(loss) == pytest.approx(math.log1p(math.exp(-4.0)), rel=1e-4)


def test_a_batch_with_nothing_valid_gives_zero_and_no_nan():
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    none = torch.zeros(1, 3, 3, dtype=torch.bool)
    loss = ohem_cross_entropy(logits, none, none)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.randn(1, 2, 8, 8).to(torch.bfloat16)
    assert ohem_cross_entropy(logits, torch.ones(1, 8, 8)).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"min_kept": 2.0}, "min_kept"),
        ({"valid": torch.ones(1, 2, 2, dtype=torch.bool)}, "valid"),
        ({"weight": torch.ones(2, 3, 3)}, "weight"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        ohem_cross_entropy(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3), **arguments)


def _judged(p: float, region: torch.Tensor) -> Judgement:
    half = torch.full((1, 1, 4, 4), math.log(p / (1 - p)) / 2)
    return Judgement(torch.cat([-half, half], dim=1), region, torch.zeros(1))


def test_a_missed_conflict_weighs_more_than_an_invented_one():
    face = torch.ones(1, 4, 4, dtype=torch.bool)
    half = torch.zeros(1, 4, 4, dtype=torch.bool)
    half[:, :2] = True
    outline = torch.full((1, 1, 2, 2), 9.0)

    def loss(p: float, weight: float) -> float:
        return float(
            selection_loss(_judged(p, outline), half, face, threshold=1.0, conflict_weight=weight)
        )

    assert loss(0.9, 1.0) == pytest.approx(loss(0.1, 1.0), rel=1e-5)
    assert loss(0.9, 3.0) > loss(0.1, 3.0)


def test_the_outline_of_the_face_is_judged_on_the_small_grid():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    region = mask.clone()
    region[:, :2] = True
    right = torch.tensor([[[[9.0, 9.0], [-9.0, -9.0]]]])

    def loss(outline: torch.Tensor) -> float:
        return float(
            selection_loss(_judged(0.5, outline), mask, region, threshold=1, conflict_weight=1)
        )

    assert loss(-right) - loss(right) == pytest.approx(9.0, abs=1e-2)

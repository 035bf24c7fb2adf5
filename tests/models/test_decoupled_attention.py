from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from models.decoupled_attention import ReferenceAttention, ReferenceProcessor
from models.reference_features import (
    AttentionForm,
    ReferenceAttentionSettings,
    gather_features,
    position_bias,
    token_coverage,
)

HEADS, WIDTH, SIDE = 2, 8, 2
LAYER = "a.attn1"


def _attention(form, *, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    attention = Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS, bias=False).to(dtype)
    projections = ReferenceAttention(attention, form)
    for parameter in projections.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    attention.set_processor(ReferenceProcessor(LAYER, projections))
    return attention, projections


def _states(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, SIDE * SIDE, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def _features(bank, mask, sigmas=None):
    settings = ReferenceAttentionSettings(position_sigmas=sigmas)
    return gather_features({LAYER: bank}, mask, (SIDE, SIDE), settings)


def _mask():
    """Four tokens of 4 x 4 px each: kept, a quarter kept, masked, kept; item 1 keeps two."""
    mask = torch.ones(2, 1, 8, 8)
    mask[0, :, :4, 4:] = 0
    mask[0, :, :2, 4:6] = 1
    mask[0, :, 4:, :4] = 0
    mask[1, :, :4] = 0
    return mask


def _softmax(logits):
    highest = max(logits)
    exps = [math.exp(one - highest) for one in logits]
    return [one / sum(exps) for one in exps]


def _plain(attention, projections, x, bank, coverage, sigmas, form):
    """Eq. 3 and Eq. 4, item by item, head by head, query by query."""
    q, k, v = (project(x) for project in (attention.to_q, attention.to_k, attention.to_v))
    k_ref, v_ref = projections.to_k(bank), projections.to_v(bank)
    depth = WIDTH // HEADS
    own, ref = torch.zeros_like(x), torch.zeros_like(x)
    for item in range(x.shape[0]):
        for head in range(HEADS):
            part = slice(head * depth, (head + 1) * depth)
            for at in range(x.shape[1]):
                query = q[item, at, part]
                logits = [float(query @ key) / math.sqrt(depth) for key in k[item, :, part]]
                kept, ref_logits = [], []
                surroundings, kept_near = 0.0, 0.0
                for token in range(bank.shape[1]):
                    share, distant = float(coverage[item, token]), 0.0
                    if sigmas is not None:
                        apart = (at // SIDE - token // SIDE) ** 2 + (at % SIDE - token % SIDE) ** 2
                        distant = -apart / (2 * sigmas[head] ** 2)
                    surroundings += math.exp(distant)
                    kept_near += share * math.exp(distant)
                    if share == 0:
                        continue
                    logit = float(query @ k_ref[item, token, part]) / math.sqrt(depth)
                    logit += math.log(share) + distant
                    kept.append(token)
                    ref_logits.append(logit)
                if form is AttentionForm.DECOUPLED:
                    for weight, value in zip(_softmax(logits), v[item, :, part], strict=True):
                        own[item, at, part] += weight * value
                    weights = _softmax(ref_logits) if kept else []
                    near = 1.0 if sigmas is None else kept_near / surroundings
                    for weight, token in zip(weights, kept, strict=True):
                        ref[item, at, part] += weight * near * v_ref[item, token, part]
                else:
                    values = [*v[item, :, part], *v_ref[item, kept, part]]
                    weights = _softmax(logits + ref_logits)
                    for weight, value in zip(weights, values, strict=True):
                        own[item, at, part] += weight * value
    joined = own if form is AttentionForm.CONCATENATED else own + projections.to_out(ref)
    return attention.to_out[0](joined)


@pytest.mark.parametrize("form", list(AttentionForm))
@pytest.mark.parametrize("sigmas", [None, (0.5, 2.0)])
def test_it_equals_the_equation_written_as_loops(form, sigmas):
    attention, projections = _attention(form)
    x, bank, mask = _states(1), _states(2), _mask()
    with torch.no_grad():
        ours = attention(x, reference=_features(bank, mask, sigmas))
        expected = _plain(
            attention, projections, x, bank, token_coverage(mask, SIDE, SIDE), sigmas, form
        )
    assert torch.allclose(ours, expected, atol=1e-6)


def test_where_distance_counts_nothing_is_fetched_from_far_away():
    attention, _ = _attention(AttentionForm.DECOUPLED)
    x, bank, mask = _states(1), _states(2), _mask()
    mask[0, :, :, :] = 0
    mask[0, :, 4:, 4:] = 1  # the last of four tokens alone
    narrow, anywhere = (
        attention(x, reference=_features(bank, mask, sigmas)) - attention(x)
        for sigmas in ((0.2, 0.2), None)
    )
    assert narrow[0, 3].abs().max() > 0.01
    assert narrow[0, 0].abs().max() < 1e-6 < anywhere[0, 0].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_reference_it_equals_diffusers_own_processor_exactly(dtype):
    attention, _ = _attention(AttentionForm.DECOUPLED, dtype=dtype)
    x = _states(1, dtype)
    ours = attention(x)
    attention.set_processor(AttnProcessor2_0())
    assert torch.equal(ours, attention(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_reference_term_starts_at_nothing(dtype):
    torch.manual_seed(0)
    attention = Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS, bias=False).to(dtype)
    alone = attention(_states(1, dtype))
    projections = ReferenceAttention(attention, AttentionForm.DECOUPLED)
    attention.set_processor(ReferenceProcessor(LAYER, projections))
    ours = attention(_states(1, dtype), reference=_features(_states(2, dtype), _mask()))
    assert torch.equal(ours, alone)
    assert torch.equal(projections.to_k.weight, attention.to_k.weight)
    assert projections.to_k.weight is not attention.to_k.weight


@pytest.mark.parametrize("form", list(AttentionForm))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_masked_token_changes_no_bit(form, dtype):
    attention, _ = _attention(form, dtype=dtype)
    x, bank = _states(1, dtype), _states(2, dtype)
    masked = token_coverage(_mask(), SIDE, SIDE) == 0
    assert masked.any()
    other = torch.where(masked[..., None], bank * -50, bank)
    assert not torch.equal(other, bank)
    first = attention(x, reference=_features(bank, _mask()))
    assert torch.equal(first, attention(x, reference=_features(other, _mask())))


@pytest.mark.parametrize("form", list(AttentionForm))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sigmas", [None, (0.5, 2.0)])
def test_a_fully_masked_reference_contributes_nothing_and_no_nan(form, dtype, sigmas):
    attention, projections = _attention(form, dtype=dtype)
    x, bank, mask = _states(1, dtype), _states(2, dtype).requires_grad_(), _mask()
    mask[0] = 0
    mask.requires_grad_()
    out = attention(x, reference=_features(bank, mask, sigmas))
    out.float().square().sum().backward()
    alone = attention(x)
    if form is AttentionForm.DECOUPLED:
        assert torch.equal(out[0], alone[0])
    else:
        assert torch.allclose(out[0].float(), alone[0].float(), atol=0.02)
    assert not torch.equal(out[1], alone[1])
    grads = [bank.grad, mask.grad, *(p.grad for p in projections.parameters())]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)
    assert torch.equal(bank.grad[0], torch.zeros_like(bank.grad[0]))
    assert bank.grad[1].abs().sum() > 0


def test_a_soft_mask_gets_a_finite_gradient_even_near_zero():
    attention, _ = _attention(AttentionForm.DECOUPLED, dtype=torch.float32)
    mask = torch.full((2, 1, 8, 8), 0.5)
    mask[:, :, :4, :4] = 1e-5
    mask[:, :, 4:, 4:] = 1e-30
    mask.requires_grad_()
    out = attention(_states(1, torch.float32), reference=_features(_states(2).float(), mask))
    out.square().sum().backward()
    assert torch.isfinite(mask.grad).all()
    assert mask.grad[:, :, 4:, :4].abs().sum() > 0


def test_half_a_token_weighs_half():
    mask = torch.ones(1, 1, 4, 4)
    mask[..., :2, :1] = 0
    assert token_coverage(mask, 2, 2).tolist() == [[0.5, 1.0, 1.0, 1.0]]


def test_distance_is_counted_in_tokens_of_the_layers_own_grid():
    bias = position_bias(3, 5, (0.5, 2.0), torch.device("cpu"))
    assert bias.shape == (1, 2, 15, 15)
    assert float(bias[0, 0, 0, 7]) == pytest.approx(-(1 + 4) / (2 * 0.25))
    assert float(bias[0, 1, 14, 4]) == pytest.approx(-4 / 8)


def test_a_sigma_of_zero_is_refused():
    with pytest.raises(ValueError, match="position_sigmas"):
        ReferenceAttentionSettings(position_sigmas=(0.5, 0.0))

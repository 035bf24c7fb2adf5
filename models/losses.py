"""OHEM-CE (Eq. 2), and what RefSel and the bootstrap U-Net are trained with."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.refsel import Judgement


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    threshold: float = 0.7,
    min_kept: float = 1 / 16,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy averaged over the hard pixels M' alone (Eq. 2).

    A pixel is hard where its loss exceeds tau = -log(threshold), that is where the right class
    got less than `threshold`. If fewer than the share `min_kept` of the valid pixels are hard, the
    hardest that many are kept, so that an easy batch never averages over nothing.

    Args:
        logits: float[B, C, H, W].
        target: bool or integer [B, H, W], class indices.
        valid: bool[B, H, W], pixels that count; None: all.
        threshold: probability in (0, 1].
        min_kept: share of the valid pixels in [0, 1].
        weight: float[B, H, W] >= 0, how much each pixel's loss counts; it does not change which
            pixels are hard. The average is over the kept weight.

    Returns:
        A scalar; 0 (with a gradient of 0) when no pixel is valid.

    Raises:
        ValueError: a shape or a number is out of range.
    """
    if not 0.0 < threshold <= 1.0 or not 0.0 <= min_kept <= 1.0:
        raise ValueError(f"threshold {threshold} or min_kept {min_kept} is out of range")
    expected = (logits.shape[0], *logits.shape[2:])
    for name, tensor in (("target", target), ("valid", valid), ("weight", weight)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise ValueError(f"{name} must be {expected}, not {tuple(tensor.shape)}")
    loss = functional.cross_entropy(logits.float(), target.long(), reduction="none")
    kept_loss = loss.flatten() if valid is None else loss[valid]
    kept_weight = (
        torch.ones_like(kept_loss)
        if weight is None
        else (weight.flatten() if valid is None else weight[valid]).to(kept_loss.dtype)
    )
    if kept_loss.numel() == 0:
        return logits.sum() * 0.0
    hard = kept_loss.detach() > -math.log(threshold)
    fewest = max(1, math.floor(min_kept * kept_loss.numel()))
    if int(hard.sum()) < fewest:
        chosen = kept_loss.detach().topk(fewest, sorted=False).indices
        kept_loss, kept_weight = kept_loss[chosen], kept_weight[chosen]
    else:
        kept_loss, kept_weight = kept_loss[hard], kept_weight[hard]
    total = kept_weight.sum()
    return (kept_loss * kept_weight).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)


def selection_loss(
    judgement: Judgement,
    mask: Tensor,
    region: Tensor,
    *,
    threshold: float,
    conflict_weight: float,
    min_kept: float = 1 / 16,
) -> Tensor:
    """Eq. 2, with the few conflict pixels weighing more than the many others, and the face region's.

    Without a loss of its own the region's map could be anything, as long as the mask comes out right.

    Args:
        judgement: what RefSel said.
        mask: bool[B, H, W], M with the severe rule applied.
        region: bool[B, H, W], the reference's face region.
        threshold: see `ohem_cross_entropy`.
        conflict_weight: of a pixel of the region that M leaves out, against 1.
        min_kept: see `ohem_cross_entropy`.
    """
    conflict = region & ~mask
    chosen = ohem_cross_entropy(
        judgement.logits,
        mask,
        threshold=threshold,
        min_kept=min_kept,
        weight=1 + (conflict_weight - 1) * conflict.float(),
    )
    size = (judgement.region.shape[-2], judgement.region.shape[-1])
    share = functional.adaptive_avg_pool2d(region[:, None].float(), size)
    outline = functional.binary_cross_entropy_with_logits(judgement.region, share)
    return chosen + outline

"""Where the restorer's attentions look on the reference, watched while it restores one face."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from diffusers.models.attention_processor import Attention
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.decoupled_attention import ReferenceProcessor, split_heads
from models.reference_features import ReferenceFeatures
from models.restorer import Restorer

GRID: Final = 32
"""Most places a side of a map: more could not be told apart, and would not fit into a page."""
ROWS: Final = 256
"""Queries at a time: a full-size layer's whole map would take gigabytes."""


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """What all layers of one grid looked at, the mean over layers and heads."""

    side: int
    """Places a side, of the result and of the reference."""
    weights: NDArray[np.float32]
    """float32[side * side, side * side]: a row for each place of the result, over the reference's.
    It sums to 1 with Eq. 4 (less where distance counts and M keeps little near by), to the reference's
    part of the softmax with Eq. 3, to 0 where M is empty."""
    share: NDArray[np.float32]
    """float32[side * side] in [0, 1]: length of the reference's term over that of both terms."""
    layers: int


class Watch:
    """What was seen so far, by tokens of a layer."""

    def __init__(self) -> None:
        self._weights: dict[int, list[Tensor]] = {}
        self._shares: dict[int, list[Tensor]] = {}

    def see(self, weights: Tensor, share: Tensor) -> None:
        """One layer's: pooled weights float[P * P, P * P], share float[P * P], with P places a side."""
        self._weights.setdefault(len(weights), []).append(weights)
        self._shares.setdefault(len(weights), []).append(share)

    def maps(self) -> list[AttentionMap]:
        """A map for each grid, the finest first."""
        return [
            AttentionMap(
                math.isqrt(places),
                torch.stack(seen).mean(dim=0).float().cpu().numpy(),
                torch.stack(self._shares[places]).mean(dim=0).float().cpu().numpy(),
                len(seen),
            )
            for places, seen in sorted(self._weights.items(), reverse=True)
        ]


class WatchedProcessor:
    """A reference attention that computes what it does anyway, and its weights once more to be seen."""

    def __init__(self, inner: ReferenceProcessor, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        reference: ReferenceFeatures | None = None,
    ) -> Tensor:
        """See `ReferenceProcessor`; square images, a batch of one."""
        if reference is not None:
            self._see(attn, hidden_states, reference)
        return self._inner(attn, hidden_states, encoder_hidden_states, attention_mask, reference)

    def _see(self, attn: Attention, hidden_states: Tensor, reference: ReferenceFeatures) -> None:
        projections, layer = self._inner.projections, self._inner.layer
        bank = reference.banks[layer]
        tokens, heads = bank.shape[1], attn.heads
        query = split_heads(attn.to_q(hidden_states), heads)[0]
        key, value = (
            split_heads(project(hidden_states), heads)[0] for project in (attn.to_k, attn.to_v)
        )
        shown, brought = (
            split_heads(project(bank), heads)[0] for project in (projections.to_k, projections.to_v)
        )
        present = bool(reference.present[tokens].all())
        bias = reference.bias[tokens][0].expand(heads, -1, -1)
        decoupled = projections.to_out is not None
        factor = pooling(tokens)
        seen, shares = [], []
        for start in range(0, tokens, ROWS):
            rows = slice(start, min(start + ROWS, tokens))
            asked = query[:, rows] / math.sqrt(query.shape[-1])
            logits = asked @ shown.transpose(1, 2)
            logits = logits + (bias if bias.shape[1] == 1 else bias[:, rows])
            own = asked @ key.transpose(1, 2)
            if decoupled:
                weights = logits.softmax(dim=2) if present else torch.zeros_like(logits)
                if reference.near:
                    weights = weights * reference.near[tokens][0, :, rows]
                term = _merged(weights @ brought)
                assert projections.to_out is not None  # noqa: S101 - the form is decoupled
                term, kept = projections.to_out(term), _merged(own.softmax(dim=2) @ value)
            else:
                both = torch.cat([own, logits], dim=2).softmax(dim=2)
                weights = both[..., tokens:]
                term, kept = _merged(weights @ brought), _merged(both[..., :tokens] @ value)
            lengths = term.norm(dim=1), kept.norm(dim=1)
            shares.append(lengths[0] / (lengths[0] + lengths[1]).clamp(min=1e-12))
            seen.append(pool_keys(weights.mean(dim=0), factor))
        self._watch.see(
            pool_queries(torch.cat(seen), factor), pool_queries(torch.cat(shares), factor)
        )


@contextmanager
def watched(restorer: Restorer) -> Iterator[Watch]:
    """Watch every reference attention of a restorer for a while."""
    watch, unet = Watch(), restorer.unet
    before: dict[str, Any] = dict(unet.attn_processors)
    watching = {
        name: WatchedProcessor(one, watch) if isinstance(one, ReferenceProcessor) else one
        for name, one in before.items()
    }
    unet.set_attn_processor(watching)
    try:
        yield watch
    finally:
        unet.set_attn_processor(before)


def pooling(tokens: int) -> int:
    """How many tokens a side make one place of the map."""
    return max(1, math.isqrt(tokens) // GRID)


def pool_keys(weights: Tensor, factor: int) -> Tensor:
    """Sums over squares of keys: float[Q, side * side] to float[Q, places]."""
    side = math.isqrt(weights.shape[1])
    grid = weights.reshape(len(weights), 1, side, side)
    return functional.avg_pool2d(grid, factor).flatten(1) * factor**2


def pool_queries(values: Tensor, factor: int) -> Tensor:
    """Means over squares of queries: float[side * side, ...] to float[places, ...]."""
    side = math.isqrt(len(values))
    grid = values.reshape(side, side, -1).permute(2, 0, 1)[:, None]
    return functional.avg_pool2d(grid, factor).flatten(1).T.reshape(-1, *values.shape[1:])


def _merged(states: Tensor) -> Tensor:
    """float[heads, L, D] to float[L, heads * D]."""
    return states.transpose(0, 1).flatten(1)

"""The masks that a row trains and is tested with, and examples that all rows share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.inference import stack_images
from models.pipeline import RefStarPipeline
from restoration.ablation.rows import FIXED_MASKS, Row
from restoration.evaluate_transfer.cases import Case
from restoration.evaluate_transfer.conditions import Images
from restoration.refstar_config import MaskSource
from restoration.refstar_data import Face, FacePair, FacePairs, MakeFace


class AsReviewed:
    """Pairs whose reviewed mask holds however little the input shows.

    The severe rule would let nearly every mask of a hard preset grow to the whole face region: rows
    that differ by their masks would not differ.
    """

    def __init__(self, pairs: FacePairs) -> None:
        self._pairs, self.annotated = pairs, pairs.annotated

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int, seed: int) -> FacePair:
        """See `FacePairs`."""
        return replace(self._pairs.pair(index, seed), reference_region=None)


def with_row_masks(make: MakeFace, row: Row) -> MakeFace:
    """Examples as `make` gives them, with the row's fixed mask where it has one.

    The face region is laid over the cycle pass's mask, so it becomes the whole image: all ones
    means the whole reference in both passes.
    """
    if row not in FIXED_MASKS:
        return make
    value = FIXED_MASKS[row]

    def masked(index: int, seed: int) -> Face:
        face = make(index, seed)
        whole = np.ones(face.mask.shape, np.bool_)
        return replace(face, mask=np.full(face.mask.shape, value), region=whole)

    return masked


@torch.inference_mode()
def restore_cases(
    pipeline: RefStarPipeline, cases: Sequence[Case], row: Row | None, source: MaskSource, size: int
) -> Images:
    """Restore the test pairs, with masks from where the row had them in training.

    Args:
        pipeline: of the row.
        cases: the pairs.
        row: which; None restores without a reference.
        source: of the masks of rows that have no fixed one.
        size: of a batch.

    Returns:
        float32[N, S, S, 3] in [0, 1].
    """
    made = []
    for start in range(0, len(cases), size):
        chosen = cases[start : start + size]
        degraded, reference = (
            stack_images([getattr(one.face, name) for one in chosen]).contiguous()
            for name in ("degraded", "reference")
        )
        if row is None:
            # A prompt that knows people is part of what a reference brings.
            out = pipeline.restorer(degraded, pipeline.prompt.of(reference))
        else:
            mask = _fixed_masks(chosen, row, source)
            out = pipeline.restore(degraded, reference, mask)
        made.append(out.float().clamp(0, 1).permute(0, 2, 3, 1).numpy())
    return np.concatenate(made)


def _fixed_masks(cases: Sequence[Case], row: Row, source: MaskSource) -> Tensor | None:
    """float32[B, 1, S, S], or None where RefSel is to choose."""
    reviewed = torch.from_numpy(np.stack([one.face.mask for one in cases]))[:, None].float()
    if row in FIXED_MASKS:
        return torch.full_like(reviewed, float(FIXED_MASKS[row]))
    return reviewed if source is MaskSource.ANNOTATED else None

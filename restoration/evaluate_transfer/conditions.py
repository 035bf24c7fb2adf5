"""The same inputs restored without a reference, with it, and with what should not help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from models.inference import stack_images
from models.pipeline import RefStarPipeline
from restoration.evaluate_transfer.cases import Case

Images = NDArray[np.float32]


class Condition(StrEnum):
    """What a face is restored from, beside the input."""

    PHASE_ONE = "Phase I"
    """Nothing."""
    REVIEWED = "reviewed mask"
    """The reference where the reviewed M allows it."""
    REFSEL = "RefSel's mask"
    """The reference where RefSel allows it."""
    ONES = "all-ones mask"
    """All of the reference, conflicts too."""
    ZEROS = "all-zeros mask"
    """A reference of which nothing may be used."""
    STRANGER = "another person"
    """Another person's reference with its own reviewed M."""


@dataclass(frozen=True, eq=False)
class Restored:
    """Outputs of one batch by condition, float32 [B, S, S, 3] in [0, 1], and RefSel's masks."""

    images: dict[Condition, Images]
    refsel: NDArray[np.bool_] | None
    """bool [B, S, S], or None where the pipeline has no RefSel."""


def restore_all(
    pipeline: RefStarPipeline, cases: Sequence[Case], others: Sequence[Case], size: int
) -> Iterator[Restored]:
    """Restore every case under every condition, `size` of them at a time.

    Args:
        pipeline: of Phase II or III.
        cases: what is restored.
        others: for each case one of another person.
        size: of a batch.
    """
    for start in range(0, len(cases), size):
        yield _restore(pipeline, cases[start : start + size], others[start : start + size])


def _restore(pipeline: RefStarPipeline, cases: Sequence[Case], others: Sequence[Case]) -> Restored:
    degraded = stack_images([one.face.degraded for one in cases]).contiguous()
    reference = stack_images([one.face.reference for one in cases]).contiguous()
    stranger = stack_images([one.face.reference for one in others]).contiguous()
    mask, strange = (
        torch.from_numpy(np.stack([one.face.mask for one in group])).float()[:, None]
        for group in (cases, others)
    )
    given = {
        Condition.REVIEWED: (reference, mask),
        Condition.ONES: (reference, torch.ones_like(mask)),
        Condition.ZEROS: (reference, torch.zeros_like(mask)),
        Condition.STRANGER: (stranger, strange),
    }
    chosen = None
    if pipeline.refsel is not None:
        with torch.no_grad():
            chosen = pipeline.choose_mask(degraded, reference)
        given[Condition.REFSEL] = (reference, chosen)
    # A prompt that knows people is part of what a reference brings: Phase I gets it too.
    prompt = pipeline.prompt.of(reference)
    with torch.no_grad():
        found = {Condition.PHASE_ONE: pipeline.restorer(degraded, prompt)}
        for condition, (image, usable) in given.items():
            found[condition] = pipeline.restorer(degraded, prompt, image, usable)
    images = {
        condition: np.asarray(one.clamp(0, 1).permute(0, 2, 3, 1).numpy(), np.float32)
        for condition, one in found.items()
    }
    return Restored(images, None if chosen is None else chosen[:, 0].numpy() > 0)

"""The forward pass and the cycle pass: the same restorer, called twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

RestoreCall = Callable[..., Tensor]
"""A models.restorer.Restorer, wrapped for several processes or not."""
MaskChooser = Callable[[Tensor, Tensor], Tensor]
"""(degraded, reference), both float[B, 3, H, W], to a mask float[B, 1, H, W] (RefSel)."""


@dataclass(frozen=True, eq=False)
class Restored:
    """What both passes give."""

    image: Tensor
    """I_out, float[B, 3, H, W], near [0, 1]."""
    rebuilt: Tensor | None
    """I_out^Ref, float[B, 3, H, W], or None where no cycle was asked for."""


def two_passes(
    restore: RestoreCall,
    degraded: Tensor,
    prompt: Tensor,
    reference: Tensor,
    mask: Tensor,
    *,
    degraded_reference: Tensor | None = None,
    choose_mask: MaskChooser | None = None,
    recompute: bool = True,
) -> Restored:
    """Restore the input from the reference, then the reference from what came out.

    The cycle pass takes the degraded reference for its input and I_out for its reference; RefSel
    chooses that pass's mask too, on I_out as it looks, without a gradient. The person is the same, so
    the prompt is as well.

    Args:
        restore: called as a Restorer is.
        degraded: I_LQ, float[B, 3, H, W] in [0, 1].
        prompt: float[B, T, D].
        reference: I^Ref, float[B, 3, H, W] in [0, 1].
        mask: M, float[B, 1, H, W] in [0, 1].
        degraded_reference: float[B, 3, H, W] in [0, 1]; None leaves the cycle out.
        choose_mask: needed with a cycle.
        recompute: with a cycle, keep nothing of the forward pass and run it again in the backward
            pass: two passes then need the memory of one, for one more forward evaluation.

    Raises:
        ValueError: a degraded reference is given, but nothing that chooses the cycle's mask.
    """
    if degraded_reference is None:
        return Restored(restore(degraded, prompt, reference, mask), None)
    if choose_mask is None:
        raise ValueError("the cycle pass needs RefSel to choose its mask")
    image = restore(degraded, prompt, reference, mask, recompute=recompute)
    shown = image.detach().clamp(0, 1)
    cycle_mask = choose_mask(degraded_reference, shown).detach()
    return Restored(image, restore(degraded_reference, prompt, image, cycle_mask))

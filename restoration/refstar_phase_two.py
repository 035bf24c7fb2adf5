"""Phase II: RefSel and adapters are frozen; the reference is learnt with the cycle (Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.pipeline import RefStarPipeline
from restoration.losses import Loss, cycle_loss, ground_truth_loss, total_loss
from restoration.passes import MaskChooser, RestoreCall, two_passes
from restoration.refstar_config import MaskSource, RefStarTraining
from restoration.refstar_data import Batch
from restoration.refstar_networks import Judge, Networks
from restoration.refstar_session import Session


def train_phase_two(session: Session) -> None:
    """Train ReferenceNet and reference attention on what the mask keeps of the reference."""
    for step in session.steps():
        for batch in session.batches():
            with session.autocast():
                loss, restored = phase_two_loss(
                    session.model, batch, session.networks, session.settings, session.judge
                )
            session.learn(loss)
            session.teach_discriminator(batch.truth, restored)
        session.finish(step)


def phase_two_loss(
    model: RestoreCall, batch: Batch, networks: Networks, settings: RefStarTraining, judge: Judge
) -> tuple[Loss, Tensor]:
    """L (Eq. 7), and I_out float[B, 3, S, S]; without a weight on the cycle its pass is not run."""
    weights = settings.losses
    mask, choose_mask = masks_of(batch, networks.pipeline, settings.data.mask)
    passes = two_passes(
        model,
        batch.degraded,
        networks.pipeline.prompt.of(batch.reference),
        batch.reference,
        mask,
        degraded_reference=batch.degraded_reference if weights.cycle else None,
        choose_mask=choose_mask,
        recompute=settings.optimisation.recompute,
    )
    found = ground_truth_loss(
        passes.image, batch.truth, weights.in_ground_truth, networks.losses, judge(passes.image)
    )
    cycle = None
    if passes.rebuilt is not None:
        cycle = cycle_loss(passes.rebuilt, batch.reference, mask, weights.in_cycle, networks.losses)
    return total_loss(found, cycle, weights), passes.image


def masks_of(
    batch: Batch, pipeline: RefStarPipeline, source: MaskSource
) -> tuple[Tensor, MaskChooser]:
    """M of the forward pass, float[B, 1, S, S] of 0 and 1, and who chooses the cycle pass's.

    See `MaskSource`.
    """
    if source is MaskSource.ANNOTATED:
        return batch.mask, lambda _degraded, _shown: batch.mask * batch.region

    def choose(degraded: Tensor, reference: Tensor) -> Tensor:
        with torch.no_grad():
            return pipeline.choose_mask(degraded, reference)

    return choose(batch.degraded, batch.reference), choose

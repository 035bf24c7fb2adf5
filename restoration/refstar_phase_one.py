"""Phase I: from a diffusion model to one-step restoration without a reference (Eq. 6)."""

from __future__ import annotations

from torch import Tensor

from restoration.losses import Loss, ground_truth_loss, total_loss
from restoration.passes import RestoreCall
from restoration.refstar_config import RefStarTraining
from restoration.refstar_data import Batch
from restoration.refstar_networks import Judge, Networks
from restoration.refstar_session import Session


def train_phase_one(session: Session) -> None:
    """Train the adapters, or from scratch the networks themselves, to restore in one step."""
    for step in session.steps():
        for batch in session.batches():
            with session.autocast():
                loss, restored = phase_one_loss(
                    session.model, batch, session.networks, session.settings, session.judge
                )
            session.learn(loss)
            session.teach_discriminator(batch.truth, restored)
        session.finish(step)


def phase_one_loss(
    model: RestoreCall, batch: Batch, networks: Networks, settings: RefStarTraining, judge: Judge
) -> tuple[Loss, Tensor]:
    """L_GT (Eq. 6), and I_out float[B, 3, S, S].

    The prompt of a model that knows people comes from the reference already; its pixels do not
    reach the restorer yet.
    """
    weights = settings.losses
    restored = model(batch.degraded, networks.pipeline.prompt.of(batch.reference))
    found = ground_truth_loss(
        restored, batch.truth, weights.in_ground_truth, networks.losses, judge(restored)
    )
    return total_loss(found, None, weights), restored

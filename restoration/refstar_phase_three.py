"""Phase III: the restorer is frozen; RefSel is tuned by what its mask does to the result (Eq. 6)."""

from __future__ import annotations

from torch import Tensor

from models.refsel import CONSISTENT
from restoration.losses import Loss, ground_truth_loss, total_loss
from restoration.passes import RestoreCall
from restoration.refstar_config import RefStarTraining
from restoration.refstar_data import Batch
from restoration.refstar_networks import Judge, Networks
from restoration.refstar_session import Session


def train_phase_three(session: Session) -> None:
    """Train RefSel through its soft mask p, which weighs the reference's tokens."""
    for step in session.steps():
        for batch in session.batches():
            with session.autocast():
                loss, restored = phase_three_loss(
                    session.model, batch, session.networks, session.settings, session.judge
                )
            session.learn(loss)
            session.teach_discriminator(batch.truth, restored)
        session.finish(step)


def phase_three_loss(
    model: RestoreCall, batch: Batch, networks: Networks, settings: RefStarTraining, judge: Judge
) -> tuple[Loss, Tensor]:
    """L_GT (Eq. 6), and I_out float[B, 3, S, S]; `model` is RefSel, called as it is."""
    weights, pipeline = settings.losses, networks.pipeline
    logits = model(batch.degraded.float(), batch.reference.float())
    probability = logits.float().softmax(dim=1)[:, CONSISTENT : CONSISTENT + 1]
    restored = pipeline.restorer(
        batch.degraded,
        pipeline.prompt.of(batch.reference),
        batch.reference,
        probability.to(batch.reference.dtype),
    )
    found = ground_truth_loss(
        restored, batch.truth, weights.in_ground_truth, networks.losses, judge(restored)
    )
    return total_loss(found, None, weights), restored

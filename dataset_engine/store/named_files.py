"""Which columns of the database name files of the home."""

from __future__ import annotations

from dataset_engine.store.tables import Event, Image, PairState, Proposal, RestorationInput

IMAGE_COLUMNS = (Image.sha256, RestorationInput.lq_sha256, RestorationInput.reference_sha256)
MASK_COLUMNS = (
    Image.region_sha256,
    RestorationInput.region_sha256,
    Proposal.mask_sha256,
    Event.mask_before,
    Event.mask_after,
    PairState.mask_sha256,
)
"""Every one of them is in a backup, and a file that none of them names any more may be removed."""

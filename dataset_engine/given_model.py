"""Taking a trained RefSel for a round's model, in place of training a U-Net for it."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from pathlib import Path

from dataset_engine.bootstrap_training import (
    MODEL_NAME,
    BootstrapReport,
    TrainingPairs,
    score_pairs,
)
from models.metrics import summarise, summarise_all_ones
from models.refsel import CONFIG_NAME, WEIGHTS_NAME, RefSel

FILES = (CONFIG_NAME, WEIGHTS_NAME)


def take_model(given: Path, held_out: TrainingPairs, folder: Path) -> BootstrapReport:
    """Copy a saved RefSel into a round's folder, and score it on held-out identities.

    Args:
        given: what `RefSel.save_pretrained` wrote.
        held_out: reviewed pairs that the rounds' models do not learn from; nor did the given one, if it
            was trained on an export of this store.
        folder: the round's.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    model = RefSel.from_pretrained(given).eval()
    kept = folder / MODEL_NAME
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".taking-"))
    try:
        for name in FILES:
            shutil.copyfile(given / name, scratch / name)
        if kept.exists():  # of an attempt that was broken off
            shutil.rmtree(kept)
        scratch.replace(kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    confusions = score_pairs(model, held_out)
    return BootstrapReport(
        model=kept,
        scores=summarise(confusions),
        all_ones=summarise_all_ones(confusions),
        losses=(),
        resumed_from=0,
        encoder_weights_note="",
    )


def is_taken(given: Path, folder: Path) -> bool:
    """Whether a round's model, in `folder`, is this one."""
    kept = folder / MODEL_NAME
    return all(
        (kept / name).is_file() and filecmp.cmp(given / name, kept / name, shallow=False)
        for name in FILES
    )

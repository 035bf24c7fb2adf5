"""Where the files of pairs and of rounds lie."""

from __future__ import annotations

from pathlib import Path

from dataset_engine.bootstrap_training import MODEL_NAME
from dataset_engine.pair_images import PairFiles
from dataset_engine.store import Store
from dataset_engine.store.tables import Pair


def pair_files(store: Store, pair: Pair) -> PairFiles:
    """Where the files of a pair lie; its images have to be loaded."""
    return PairFiles(
        key=pair.key,
        gt=store.images.path(pair.gt.sha256),
        reference=store.images.path(pair.ref.sha256),
        region=store.masks.path(pair.ref.region_sha256),
    )


def run_folder(store: Store, model_version: str) -> Path:
    """Where a round's U-Net is trained: the state of the training, and the finished model."""
    return store.home / "models" / model_version


def model_folder(store: Store, model_version: str) -> Path:
    """Where a round's finished U-Net is kept."""
    return run_folder(store, model_version) / MODEL_NAME

"""What the U-Net reads from the store: reviewed pairs to learn from, files to propose for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataset_engine.bootstrap_training import MODEL_NAME
from dataset_engine.proposing import PairFiles
from dataset_engine.shards.augmentation import TrainingPair
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.queries import reviewed_masks
from dataset_engine.store.tables import Pair
from dataset_engine.taxonomy import Split


class ReviewedPairs(Sequence[TrainingPair]):
    """The pairs of some splits that a person has reviewed, read from the store when asked for.

    The list is fixed when the object is made: reviews that come in later belong to a later round.
    """

    def __init__(self, store: Store, splits: Sequence[Split]) -> None:
        self._store = store
        with store.reading() as session:
            self._rows = [
                (pair.gt.sha256, pair.ref.sha256, mask, pair.ref.region_sha256)
                for pair, mask in reviewed_masks(session, splits)
            ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TrainingPair:  # type: ignore[override]
        gt, reference, mask, region = self._rows[index]
        return TrainingPair(
            first=read_rgb(self._store.images.path(gt)),
            reference=read_rgb(self._store.images.path(reference)),
            mask=self._store.mask(mask),
            region=self._store.mask(region),
        )


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

"""Which reviewed masks a round learns from: fixed when the round begins, and kept beside its model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_engine.shards.augmentation import TrainingPair
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.blobs import write_atomically
from dataset_engine.store.queries import reviewed_masks
from dataset_engine.taxonomy import Split

FILE_NAME = "training-set.json"


@dataclass(frozen=True)
class ReviewedMask:
    """A reviewed pair by the hashes of its files."""

    gt: str
    reference: str
    mask: str
    region: str


@dataclass(frozen=True)
class TrainingSet:
    """Reviewed pairs of the train identities, and those of all others to measure on."""

    train: tuple[ReviewedMask, ...]
    held_out: tuple[ReviewedMask, ...]


class ReviewedPairs(Sequence[TrainingPair]):
    """Reviewed pairs as training examples, read from the store when asked for."""

    def __init__(self, store: Store, masks: Sequence[ReviewedMask]) -> None:
        self._store = store
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: int) -> TrainingPair:  # type: ignore[override]
        one = self._masks[index]
        return TrainingPair(
            first=read_rgb(self._store.images.path(one.gt)),
            reference=read_rgb(self._store.images.path(one.reference)),
            mask=self._store.mask(one.mask),
            region=self._store.mask(one.region),
        )


def current_training_set(store: Store) -> TrainingSet:
    """All masks that people have reviewed so far."""
    with store.reading() as session:
        train, held_out = (
            tuple(
                ReviewedMask(pair.gt.sha256, pair.ref.sha256, mask, pair.ref.region_sha256)
                for pair, mask in reviewed_masks(session, splits)
            )
            for splits in ([Split.TRAIN], [Split.VALIDATION, Split.TEST])
        )
    return TrainingSet(train, held_out)


def fixed_training_set(store: Store, folder: Path) -> TrainingSet:
    """The training set of a round: the current one at the first call, and that one ever after.

    A training that was broken off goes on with the masks it began with; reviews that came in
    meanwhile are learnt from in the next round.

    Args:
        store: the store.
        folder: the round's folder.
    """
    path = folder / FILE_NAME
    if not path.exists():
        write_atomically(path, json.dumps(asdict(current_training_set(store))).encode())
    kept = json.loads(path.read_text())
    train, held_out = (
        tuple(ReviewedMask(**one) for one in kept[name]) for name in ("train", "held_out")
    )
    return TrainingSet(train, held_out)

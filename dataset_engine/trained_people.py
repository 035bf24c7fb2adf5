"""Who was trained on: by name, and by the look of their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.decode import UnreadableImage, read_image
from dataset_engine.faces.quality import perceptual_hash
from dataset_engine.ingest_files import images_below
from dataset_engine.progress import Advance
from dataset_engine.same_picture import NEAR_DUPLICATE_BITS
from dataset_engine.shards.index import has_versions
from dataset_engine.shards.reader import RefSelShards
from dataset_engine.taxonomy import Split


class TrainedPeople:
    """The identities of a training set, and the perceptual hashes of their aligned pictures."""

    def __init__(self, names: set[str], hashes: list[str]) -> None:
        self._names = names
        self._hashes = np.array([int(one, 16) for one in hashes], np.uint64)

    def __len__(self) -> int:
        return len(self._names)

    def named(self, name: str) -> bool:
        """Whether an identity of this name was trained on."""
        return name in self._names

    def pictured(self, phash: str) -> bool:
        """Whether an aligned picture is, or nearly is, one that was trained on.

        Args:
            phash: as `faces.quality.perceptual_hash` gives it.
        """
        if not len(self._hashes):
            return False
        away = np.bitwise_count(self._hashes ^ np.uint64(int(phash, 16)))
        return bool(away.min() <= NEAR_DUPLICATE_BITS)


def trained_people(source: Path, progress: Advance | None = None) -> TrainedPeople:
    """Read a training set: RefSel-HQ shards, or a folder of identity folders with aligned pictures.

    Args:
        source: the folder.
        progress: is told how many pictures were looked at.

    Raises:
        NotADirectoryError: it is no folder.
        ShardError: it has shards that cannot be read.
    """
    if not source.is_dir():
        raise NotADirectoryError(f"{source} is no folder: give the shards or faces of the training")
    names, hashes = set(), []
    for name, image in _of_shards(source) if has_versions(source) else _of_folders(source):
        names.add(name)
        hashes.append(perceptual_hash(image))
        if progress is not None:
            progress(len(hashes), None)
    return TrainedPeople(names, hashes)


def _of_shards(source: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for split in (Split.TRAIN, Split.VALIDATION):
        samples = RefSelShards(source, split)
        for index in range(len(samples)):
            sample = samples[index]
            name = samples.identity(index).rpartition("/")[2]
            yield name, sample.gt
            yield name, sample.reference


def _of_folders(source: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        for path in images_below(folder):
            try:
                yield folder.name, read_image(path)
            except UnreadableImage:
                continue

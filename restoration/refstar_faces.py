"""Which faces a run learns from and is measured on: RefSel-HQ shards, or identity folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataset_engine.shards import RefSelShards
from dataset_engine.shards.index import has_versions
from restoration.refstar_config import FaceData
from restoration.refstar_data import FacePairs, ShardPairs
from restoration.refstar_folders import (
    FolderPairs,
    SetAsideFiles,
    find_identities,
    split_identities,
)


@dataclass(frozen=True, eq=False)
class Faces:
    """Training and validation pairs of different identities."""

    train: FacePairs
    validation: FacePairs
    version: str
    """Names the data, so that no run goes on with other data."""
    left: SetAsideFiles
    """What could not be used so far."""


def open_faces(location: Path, data: FaceData, seed: int) -> Faces:
    """Open shards (an export or one of its versions) or a folder of identity folders.

    Raises:
        ShardError: shards are broken, or leak between their splits.
        ValueError: there is nothing at `location` that could be used, or a split is empty.
    """
    left = SetAsideFiles()
    if not location.is_dir():
        raise ValueError(f"{location} is no folder; give RefSel-HQ shards or identity folders")
    if has_versions(location):
        train, validation = (RefSelShards(location, split) for split in ("train", "validation"))
        version = f"RefSel-HQ {train.version}"
        faces = Faces(ShardPairs(train), ShardPairs(validation), version, left)
    else:
        learnt, held = split_identities(find_identities(location, left), data.validation, seed)
        faces = Faces(
            FolderPairs(learnt, left),
            FolderPairs(held, left),
            f"{location.name}: {len(learnt)} + {len(held)} identities",
            left,
        )
    if not len(faces.train) or not len(faces.validation):
        raise ValueError(
            f"{location}: {len(faces.train)} training and {len(faces.validation)} validation faces "
            f"({len(left.reasons)} files or folders set aside): training needs some of both; give "
            "folders of 512x512 images, two of each of two identities at least"
        )
    return faces

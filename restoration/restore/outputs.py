"""The files of one restored picture: the picture itself, and what else is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.files import write_whole
from restoration.restore.faces import LocatedFace
from restoration.restore.pictures import at_side, before_after, mask_at, png, under_mask

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Also(StrEnum):
    """What is written beside the restored picture, each into a folder of its own."""

    MASK = "mask"
    """Which parts of the reference were used, black and white."""
    REFERENCE = "reference"
    """The reference under the mask."""
    COMPARISON = "comparison"
    """Input, reference with its mask, and restored face."""
    FACE = "face"
    """The restored face, aligned."""


def what_else(names: Iterable[str]) -> frozenset[Also]:
    """What is to be written beside the pictures, by name.

    Raises:
        ValueError: there is nothing of such a name.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(Also)):
        raise ValueError(f"{unknown[0]!r} is nothing to write too; give {', '.join(Also)}")
    return frozenset(Also(name) for name in wanted)


@dataclass(frozen=True, eq=False)
class Made:
    """What the networks made of one picture."""

    face: LocatedFace
    reference: Image
    """uint8 RGB [R, R, 3], aligned."""
    mask: Mask
    """bool [S, S]."""
    restored: Image
    """uint8 RGB [S, S, 3]."""


def write_outputs(out: Path, name: str, made: Made, also: Iterable[Also]) -> dict[str, str]:
    """Write `NAME.png` and what else is asked for, each into a folder of its own.

    Args:
        out: the folder of all.
        name: the picture's, without suffix.
        made: by the networks.
        also: what else.

    Returns:
        the files' names in `out`, each with the SHA-256 of its bytes.
    """
    wide = mask_at(made.mask, made.reference.shape[0])
    files: dict[str, Image] = {}
    for one in also:
        (out / one).mkdir(exist_ok=True)
        files[f"{one}/{name}.png"] = _beside(one, made, wide)
    # the picture comes last: where it is, the others are
    files[f"{name}.png"] = made.face.paste(made.restored)
    hashes = {}
    for file, image in files.items():
        data = png(image)
        write_whole(out / file, data)
        hashes[file] = hashlib.sha256(data).hexdigest()
    return hashes


def _beside(also: Also, made: Made, mask: Mask) -> Image:
    match also:
        case Also.MASK:
            return mask.astype(np.uint8) * np.uint8(255)
        case Also.REFERENCE:
            return under_mask(made.reference, mask)
        case Also.COMPARISON:
            after = at_side(made.restored, made.face.aligned.shape[0])
            return before_after(made.face.aligned, made.reference, mask, after)
        case Also.FACE:
            return made.restored

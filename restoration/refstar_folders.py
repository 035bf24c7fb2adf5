"""Faces from a folder for each identity, `FOLDER/IDENTITY/IMAGE`, as CelebRef-HQ comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image as PillowImage

from dataset_engine.shards.order import epoch_order
from restoration.refstar_data import FacePair, Image, Mask

SIDE: Final = 512
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
REGION_SUFFIX: Final = ".region.png"


@dataclass
class SetAsideFiles:
    """What could not be used, and why; a run goes on without it."""

    reasons: dict[Path, str] = field(default_factory=dict)

    def add(self, path: Path, reason: str) -> None:
        """Note a file or folder, once."""
        self.reasons.setdefault(path, reason)


class FolderPairs:
    """Every image is a ground truth; its reference is drawn from the identity's other images.

    A file that turns out to be broken is set aside, and the identity's next image takes its place:
    a function of the files and the seed, so that a resumed run sees the same.
    """

    annotated = False

    def __init__(self, identities: Sequence[Sequence[Path]], left: SetAsideFiles) -> None:
        """Take identities with at least two images each."""
        self._identities = [tuple(images) for images in identities]
        self._places = [
            (number, place)
            for number, images in enumerate(self._identities)
            for place in range(len(images))
        ]
        self._left = left

    def __len__(self) -> int:
        return len(self._places)

    def pair(self, index: int, seed: int) -> FacePair:
        """The image as ground truth, and another one of the identity that `seed` draws.

        Raises:
            ValueError: the identity has not two images left that can be read.
        """
        number, place = self._places[index]
        images = self._identities[number]
        others = [*images[place + 1 :], *images[:place]]
        order = epoch_order(len(others), seed, 0)
        found = []
        for path in (images[place], *(others[one] for one in order)):
            image = self._read(path)
            if image is not None:
                found.append((path, image))
            if len(found) == 2:
                (truth_path, truth), (_, reference) = found
                return FacePair(truth, reference, _region(truth_path), None)
        raise ValueError(
            f"{images[0].parent} has fewer than two images that can be read; copy it again, or "
            "take the folder away"
        )

    def _read(self, path: Path) -> Image | None:
        if path in self._left.reasons:
            return None
        try:
            return read_face(path)
        except (OSError, ValueError) as error:
            self._left.add(path, str(error))
            return None


def read_face(path: Path) -> Image:
    """An aligned image, uint8 RGB [512, 512, 3].

    Raises:
        OSError: it cannot be read.
        ValueError: it does not decode or is of another size.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"it does not decode: {error.err}") from error
    if image is None:
        raise ValueError("it does not decode")
    if image.shape[:2] != (SIDE, SIDE):
        raise ValueError(f"{image.shape[1]}x{image.shape[0]} px, not {SIDE}x{SIDE}")
    return np.asarray(image, np.uint8)


def find_identities(folder: Path, left: SetAsideFiles) -> list[list[Path]]:
    """The images of each identity, in the order of their names; headers are read, pixels are not.

    An image that is not 512x512, and an identity with fewer than two images, is set aside.
    """
    identities = []
    for identity in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = [
            path
            for path in sorted(identity.rglob("*"))
            if path.suffix.lower() in SUFFIXES
            and not path.name.endswith(REGION_SUFFIX)
            and _has_right_size(path, left)
        ]
        if len(images) >= 2:
            identities.append(images)
        else:
            left.add(identity, f"{len(images)} images that can be used: a pair needs two")
    return identities


def split_identities(
    identities: Sequence[Sequence[Path]], share: float, seed: int
) -> tuple[list[Sequence[Path]], list[Sequence[Path]]]:
    """Training and validation identities; the latter are `share` of all, and at least one."""
    order = epoch_order(len(identities), seed, 0).tolist()
    count = max(1, round(share * len(identities)))
    chosen = set(order[:count])
    train = [one for number, one in enumerate(identities) if number not in chosen]
    return train, [identities[number] for number in sorted(chosen)]


def _has_right_size(path: Path, left: SetAsideFiles) -> bool:
    try:
        with PillowImage.open(path) as opened:
            size = opened.size
    except (OSError, ValueError, SyntaxError) as error:
        left.add(path, f"no readable image ({error})")
        return False
    if size != (SIDE, SIDE):
        left.add(path, f"{size[0]}x{size[1]} px, not {SIDE}x{SIDE}: align it first")
        return False
    return True


def _region(path: Path) -> Mask | None:
    beside = path.with_name(path.stem + REGION_SUFFIX)
    if not beside.is_file():
        return None
    region = cv2.imdecode(np.frombuffer(beside.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if region is None or region.shape != (SIDE, SIDE):
        return None
    return np.asarray(region > 127, np.bool_)

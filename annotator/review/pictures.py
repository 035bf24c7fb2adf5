"""Pictures of a pair for people: cards of the grid, previews, masks over references, differences."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.pictures import over
from dataset_engine.store import BlobError, Store, read_rgb

CARD = 192
"""Height of a card's two faces, pixels: twice of what a small screen shows."""
FIRST_ONLY = (240, 150, 40)
SECOND_ONLY = (70, 130, 240)

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def card_jpeg(store: Store, gt: str, ref: str, region: str, mask: str | None) -> bytes:
    """Ground truth and reference side by side, the mask over the reference, as a small JPEG."""
    faces = [_small(store.images.path(sha256)) for sha256 in (gt, ref)]
    shown = store.mask(mask) if mask else np.zeros((CARD, CARD), np.bool_)
    tinted = over(faces[1], _shrunk(shown), _shrunk(store.mask(region))) if mask else faces[1]
    gap = np.full((CARD, 4, 3), 13, np.uint8)
    return _jpeg(np.hstack([faces[0], gap, tinted]), 82)


def face_jpeg(store: Store, sha256: str) -> bytes:
    """An aligned photograph, 512x512, as a JPEG that loads fast."""
    return _jpeg(read_rgb(store.images.path(sha256)), 90)


def over_jpeg(store: Store, ref: str, region: str, mask: str) -> bytes:
    """The reference with a mask over it, 512x512."""
    return merged_jpeg(store, ref, region, store.mask(mask))


def merged_jpeg(store: Store, ref: str, region: str, mask: Mask) -> bytes:
    """`over_jpeg` for a mask that is not stored."""
    face = read_rgb(store.images.path(ref))
    return _jpeg(over(face, mask, store.mask(region)), 90)


def difference_jpeg(store: Store, ref: str, first: Mask, second: Mask) -> bytes:
    """The reference in grey: orange is in the first mask only, blue in the second, light in both."""
    face = read_rgb(store.images.path(ref))
    grey = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    shown = grey.astype(np.float32)
    shown[~(first | second)] *= 0.45
    for where, colour in ((first & ~second, FIRST_ONLY), (second & ~first, SECOND_ONLY)):
        shown[where] = 0.3 * shown[where] + 0.7 * np.array(colour, np.float32)
    return _jpeg(shown.clip(0, 255).astype(np.uint8), 90)


def overlap(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def _small(path: Path) -> Image:
    """An aligned photograph at half its size, which a JPEG gives for a fraction of the work."""
    image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
    if image is None:
        raise BlobError(f"{path} is missing or not an image: restore it from a backup of the home")
    small = cv2.resize(image, (CARD, CARD), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def _shrunk(mask: Mask) -> Mask:
    small = cv2.resize(mask.view(np.uint8), (CARD, CARD), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small > 0)


def _jpeg(image: Image, quality: int) -> bytes:
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not ok:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as JPEG")
    return data.tobytes()

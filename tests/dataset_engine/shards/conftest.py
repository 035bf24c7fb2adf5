from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.shards import Triplet
from dataset_engine.taxonomy import Conflict, Split, Status

SPLITS = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)
CONFLICTS = (
    (Conflict.MOUTH,),
    (Conflict.EYES, Conflict.WRINKLES),
    (),
    (Conflict.BEARD,),
    (Conflict.GLASSES, Conflict.COSMETICS),
)
POINTS = ((193.0, 240.0), (319.0, 240.2), (256.6, 314.0), (201.3, 371.4), (313.1, 371.2))


@cache
def face(seed: int) -> bytes:
    """A smooth picture with an oval in it: about 20 KB, and another one for each seed."""
    random = np.random.default_rng(seed)
    colours = random.integers(40, 215, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(colours, (512, 512), interpolation=cv2.INTER_CUBIC)
    tone = tuple(int(value) for value in random.integers(120, 230, 3))
    cv2.ellipse(image, (256, 270), (140, 190), 0, 0, 360, tone, -1, cv2.LINE_AA)
    cv2.circle(image, (200, 240), 12, (20, 20, 20), -1)
    cv2.circle(image, (312, 240), 12, (20, 20, 20), -1)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@cache
def region(hole: int | None = None) -> bytes:
    """The oval as a 1-bit PNG, with a mouth cut out of it."""
    mask = np.zeros((512, 512), np.uint8)
    cv2.ellipse(mask, (256, 270), (140, 190), 0, 0, 360, 255, -1)
    if hole is not None:
        mask[330 + hole : 420, 180:330] = 0
    return cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def make_triplet(folder: Path, number: int, **changes: object) -> Triplet:
    """The triplet of a number; ten in a row share an identity."""
    folder.mkdir(parents=True, exist_ok=True)
    key = f"pair-{number:05d}"
    person = number // 10 if number >= 50 else number % 5
    digest = hashlib.sha256(key.encode()).hexdigest()
    fields: dict[str, object] = {
        "key": key,
        "identity": f"person-{person:03d}",
        "split": SPLITS[person % 5],
        "gt": write(folder / f"{key}-gt.jpg", face(2 * number)),
        "ref": write(folder / f"{key}-ref.jpg", face(2 * number + 1)),
        "gt_region": write(folder / f"{key}-gt-region.png", region()),
        "ref_region": write(folder / f"{key}-ref-region.png", region()),
        "mask": write(folder / f"{key}-mask.png", region(number % 40)),
        "conflicts": CONFLICTS[number % 5],
        "status": (Status.ACCEPTED, Status.ADJUSTED)[number % 2],
        "round": number % 3,
        "annotator": ("ann", "béa")[number % 2],
        "model_version": None if number % 3 == 0 else f"unet-{number % 3}",
        "gt_phash": digest[:16],
        "ref_phash": digest[16:32],
        "gt_points": POINTS,
        "ref_points": POINTS,
        "source": "drawn ovals",
        "licence": "CC0-1.0",
    }
    return Triplet(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def triplets(tmp_path: Path) -> Callable[..., list[Triplet]]:
    """`triplets(12)` makes twelve triplets; `triplets(3, start=12)` three more."""

    def make(count: int, start: int = 0) -> list[Triplet]:
        return [make_triplet(tmp_path / "store", n) for n in range(start, start + count)]

    return make


@pytest.fixture
def one_triplet(tmp_path: Path) -> Callable[..., Triplet]:
    """`one_triplet(7, annotator="x")` makes one with changed fields, in files of its own."""

    def make(number: int, **changes: object) -> Triplet:
        return make_triplet(tmp_path / f"store-{number}-{len(changes)}", number, **changes)

    return make


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder with its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    return read


@pytest.fixture
def damage() -> Callable[..., Path]:
    """`damage(out, key, "gt.jpg")` breaks a member of an export's first version; gives its shard."""

    def invert(out: Path, key: str, member: str, at: float = 0.5) -> Path:
        """Invert 16 bytes of a member in its shard."""
        for shard in json.loads((out / "v001/index.json").read_bytes())["shards"]:
            for sample in shard["samples"]:
                if sample["key"] == key:
                    path = out / "v001" / str(shard["path"])
                    offset, size, _ = sample["members"][member]
                    path.chmod(0o644)
                    with path.open("r+b") as file:
                        place = offset + min(int(size * at), size - 16)
                        file.seek(place)
                        old = file.read(16)
                        file.seek(place)
                        file.write(bytes(byte ^ 255 for byte in old))
                    return path
        raise AssertionError(key)

    return invert

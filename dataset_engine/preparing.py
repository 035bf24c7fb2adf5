"""Files in, what the store keeps of them out; in this process, or in several when there are many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path

from dataset_engine.faces.analyser import FaceAnalyser, MediapipeAnalyser
from dataset_engine.faces.prepare import PrepareSettings, SetAside, prepare_image
from dataset_engine.ingest_files import Found, Left
from dataset_engine.store.blobs import encode_jpeg, encode_mask_png
from dataset_engine.worker_pool import mapped

IN_PROCESS = 8
"""Up to this many files are prepared without starting other processes."""


@dataclass(frozen=True)
class Ready:
    """An image that can be stored.

    Attributes:
        jpeg: the aligned image.
        region_png: its face region.
    """

    found: Found
    source_sha256: str
    jpeg: bytes
    region_png: bytes
    phash: str
    sharpness: float
    five_points: list[list[float]]


def prepared(
    found: Iterable[Found], prepare: PrepareSettings, workers: int | None
) -> Iterator[Ready | Left]:
    """Prepare files in their order; whatever a file does to the process, the others go on."""
    workers = workers or os.cpu_count() or 1
    work = partial(prepare_file, prepare=prepare)
    found = iter(found)
    first = list(islice(found, IN_PROCESS + 1))
    if len(first) <= IN_PROCESS or workers == 1:
        return map(work, chain(first, found))
    return mapped(work, chain(first, found), workers, _died)


def prepare_file(found: Found, prepare: PrepareSettings) -> Ready | Left:
    """Align one file and find its face region; never raises for what is wrong with the file."""
    try:
        source_sha256 = file_sha256(found.path)
        image = prepare_image(found.path, _analyser(), prepare)
    except SetAside as error:
        return Left(found.path, str(error.reason), error.detail)
    except OSError as error:
        return Left(found.path, "unreadable", str(error))
    except MemoryError:
        return Left(found.path, "too_large", "not enough memory to read it")
    return Ready(
        found=found,
        source_sha256=source_sha256,
        jpeg=encode_jpeg(image.image),
        region_png=encode_mask_png(image.region),
        phash=image.phash,
        sharpness=image.sharpness,
        five_points=image.five_points.astype(float).round(3).tolist(),
    )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _died(found: Found) -> Left:
    return Left(
        found.path,
        "crashed",
        "the process that read it died, twice: the file is broken, or memory too small for it",
    )


@cache
def _analyser() -> FaceAnalyser:
    # one a process: loading the detector costs more than using it
    return MediapipeAnalyser()

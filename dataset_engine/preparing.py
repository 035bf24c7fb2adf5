"""Files in, what the store keeps of them out; in this process, or in several when there are many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.alignment import SIZE
from dataset_engine.faces.analyser import FaceAnalyser, MediapipeAnalyser
from dataset_engine.faces.decode import read_image
from dataset_engine.faces.prepare import PrepareSettings, Reason, SetAside, prepare_image
from dataset_engine.ingest_files import Found, Left
from dataset_engine.shards.files import file_sha256
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


@dataclass(frozen=True)
class InputFiles:
    """A degraded picture and a reference without ground truth; ``path`` is the degraded picture."""

    name: str
    path: Path
    reference: Path


@dataclass(frozen=True)
class ReadyInput:
    """A restoration input that can be stored.

    Attributes:
        lq: the degraded picture, 512x512 JPEG.
        aligned: false where no face was found in it, so that it was taken as it was.
        reference: the aligned reference with its face region.
    """

    files: InputFiles
    source_sha256: str
    lq: bytes
    aligned: bool
    reference: Ready


_Item = TypeVar("_Item", Found, InputFiles)
_Result = TypeVar("_Result", Ready, ReadyInput)


def prepared(
    found: Iterable[Found], prepare: PrepareSettings, workers: int | None
) -> Iterator[Ready | Left]:
    """Prepare files in their order; whatever a file does to the process, the others go on."""
    return _each(partial(prepare_file, prepare=prepare), found, workers)


def prepared_inputs(
    files: Iterable[InputFiles], prepare: PrepareSettings, workers: int | None
) -> Iterator[ReadyInput | Left]:
    """Prepare restoration inputs in their order, as `prepared` does files."""
    return _each(partial(prepare_input, prepare=prepare), files, workers)


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


def prepare_input(files: InputFiles, prepare: PrepareSettings) -> ReadyInput | Left:
    """Align a degraded picture and its reference; never raises for what is wrong with a file.

    The reference has to be fit as any image; of the degraded picture only its size is limited. A
    square one in which no face is found is taken as it is: whoever cut it aligned it.
    """
    reference = prepare_file(Found(files.name, files.reference, files.reference.name), prepare)
    if isinstance(reference, Left):
        return reference
    lenient = replace(
        prepare, min_eye_distance=0, min_sharpness=0, min_bright=0, max_dark=255, min_region=0
    )
    try:
        source_sha256 = file_sha256(files.path)
        try:
            image, aligned = prepare_image(files.path, _analyser(), lenient).image, True
        except SetAside as error:
            if error.reason is not Reason.NO_FACE:
                raise
            image, aligned = _as_it_is(files.path, prepare, error), False
    except SetAside as error:
        return Left(files.path, str(error.reason), error.detail)
    except OSError as error:
        return Left(files.path, "unreadable", str(error))
    except MemoryError:
        return Left(files.path, "too_large", "not enough memory to read it")
    return ReadyInput(files, source_sha256, encode_jpeg(image), aligned, reference)


def _as_it_is(path: Path, prepare: PrepareSettings, no_face: SetAside) -> NDArray[np.uint8]:
    pixels = read_image(path, prepare.limits)
    height, width = pixels.shape[:2]
    if height != width:
        detail = f"{no_face.detail}, and {width}x{height} is not square: cut it to the face"
        raise SetAside(Reason.NO_FACE, detail)
    if height == SIZE:
        return pixels
    way = cv2.INTER_AREA if height > SIZE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (SIZE, SIZE), interpolation=way), np.uint8)


def _each(
    work: Callable[[_Item], _Result | Left], items: Iterable[_Item], workers: int | None
) -> Iterator[_Result | Left]:
    workers = workers or os.cpu_count() or 1
    items = iter(items)
    first = list(islice(items, IN_PROCESS + 1))
    if len(first) <= IN_PROCESS or workers == 1:
        return map(work, chain(first, items))
    return mapped(work, chain(first, items), workers, _died)


def _died(item: Found | InputFiles) -> Left:
    return Left(
        item.path,
        "crashed",
        "the process that read it died, twice: the file is broken, or memory too small for it",
    )


@cache
def _analyser() -> FaceAnalyser:
    # one a process: loading the detector costs more than using it
    return MediapipeAnalyser()

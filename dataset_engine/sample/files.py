"""The sample as identity folders with sidecars, in the form that `engine ingest` takes."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.sample.render import Person, shoot

INDEX = "sample.json"


def identity_name(index: int) -> str:
    """The folder of an identity: 3 -> "sample-0003"."""
    return f"sample-{index:04d}"


def shot_name(index: int) -> str:
    """The stem of a shot's files: 2 -> "02"."""
    return f"{index:02d}"


def identity_index(name: str) -> int:
    """The number in a name that `identity_name` gave.

    Raises:
        ValueError: it is another kind of name.
    """
    if match := re.fullmatch(r"sample-(\d{4,})", name):
        return int(match[1])
    raise ValueError(f"{name!r} is not an identity of the sample; expected a name like sample-0003")


def shot_index(name: str) -> int:
    """The number in a name that `shot_name` gave.

    Raises:
        ValueError: it is another kind of name.
    """
    if re.fullmatch(r"\d{2,}", name):
        return int(name)
    raise ValueError(f"{name!r} is not a shot of the sample; expected a name like 02")


@dataclass(frozen=True)
class _Task:
    folder: Path
    seed: int
    identity: int
    shots: int


def write_sample(
    folder: Path,
    identities: int,
    shots: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int = 1,
) -> None:
    """Render identities and write FOLDER/sample-0000/00.png with sidecars, and sample.json.

    Shots that are complete are kept, so an interrupted call may be made again, and a larger one
    adds what is new. The bytes do not depend on `workers`.

    Args:
        folder: made if it is missing.
        identities: how many people, from 1.
        shots: how many shots of each, from 1.
        seed: draws everything.
        progress: told (shots done, shots in all) after each identity.
        workers: processes.

    Raises:
        ValueError: a count is under 1, or the folder holds a sample of another seed.
        OSError: the folder cannot be written.
    """
    if min(identities, shots, workers) < 1:
        raise ValueError(
            f"identities={identities}, shots={shots}, workers={workers}: each must be at least 1"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_index(folder, identities, shots, seed)
    tasks = [_Task(folder, seed, identity, shots) for identity in range(identities)]
    done, total = 0, identities * shots
    if workers == 1:
        for task in tasks:
            _write_identity(task)
            done += shots
            if progress is not None:
                progress(done, total)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork could inherit another library's threads
    pool = ProcessPoolExecutor(min(workers, identities), spawn, initializer=_one_thread)
    try:
        for future in as_completed([pool.submit(_write_identity, task) for task in tasks]):
            future.result()
            done += shots
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write_index(folder: Path, identities: int, shots: int, seed: int) -> None:
    path = folder / INDEX
    if path.exists():
        try:
            held = json.loads(path.read_text())
            old = (int(held["seed"]), int(held["identities"]), int(held["shots"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a sample's index ({error}); remove it or choose another folder"
            ) from error
        if old[0] != seed:
            raise ValueError(
                f"{folder} holds a sample of seed {old[0]}, not {seed}; choose another folder"
            )
        identities, shots = max(identities, old[1]), max(shots, old[2])
    index = {"seed": seed, "identities": identities, "shots": shots}
    _write(path, (json.dumps(index, indent=1) + "\n").encode())


def _write_identity(task: _Task) -> None:
    place = task.folder / identity_name(task.identity)
    place.mkdir(exist_ok=True)
    person: Person | None = None
    for index in range(task.shots):
        stem = shot_name(index)
        image = place / f"{stem}.png"
        points, region = place / f"{stem}.face.json", place / f"{stem}.region.png"
        if image.exists() and points.exists() and region.exists():
            continue
        person = person or Person(task.seed, task.identity)
        taken = shoot(person, person.shot(index))
        five = [[float(x), float(y)] for x, y in taken.geometry.five_points]
        # The picture comes last: whoever sees it finds its sidecars.
        _write(points, (json.dumps({"five_points": five}) + "\n").encode())
        _write(region, _png(np.where(taken.region, 255, 0).astype(np.uint8)))
        _write(image, _png(np.ascontiguousarray(taken.image[..., ::-1])))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    return bytes(data)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

"""The embedded sample straight to RefSel-HQ shards: rendered pairs with their exact masks.

No person and no store is in between, so that RefSel's recipe can be measured on many identities within
minutes. What people's photographs become goes through the store (`engine export`).
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from dataset_engine.progress import Advance, silent
from dataset_engine.sample import Person, Photograph, compare, identity_name, shoot, shot_name
from dataset_engine.shards import Scenario, Split, Triplet, VersionReport, scenarios, write_version
from dataset_engine.shards.triplet import FILE_MEMBERS, describe, restore
from dataset_engine.store.blobs import encode_jpeg, encode_mask_png, write_atomically
from dataset_engine.taxonomy import Status

SOURCE: Final = "embedded sample"
LICENCE: Final = "CC0-1.0"
ANNOTATOR: Final = "renderer"
_TRIPLETS: Final = "triplets.json"


@dataclass(frozen=True)
class SampleSize:
    """How many people and pairs; the first identities train, the next validate, the last test.

    `pairs` of a training or validation identity are drawn from all ordered pairs of its `shots`. Of the
    test identities `per_scenario` pairs are taken for each of the paper's scenarios, no pair twice.
    """

    train: int = 600
    validation: int = 20
    test: int = 60
    shots: int = 5
    pairs: int = 12
    per_scenario: int = 50

    def __post_init__(self) -> None:
        if min(self.train, self.validation, self.test, self.pairs, self.per_scenario) < 1:
            raise ValueError(f"every number of {self} must be at least 1")
        if self.shots < 2:
            raise ValueError(f"shots must be at least 2 to make a pair, not {self.shots}")

    @property
    def identities(self) -> int:
        """How many people there are in all."""
        return self.train + self.validation + self.test

    def split(self, identity: int) -> Split:
        """Where an identity is used."""
        if identity < self.train:
            return Split.TRAIN
        return Split.VALIDATION if identity < self.train + self.validation else Split.TEST


@dataclass(frozen=True)
class _Task:
    folder: Path
    seed: int
    identity: int
    size: SampleSize


def write_sample_shards(
    work: Path,
    out: Path,
    size: SampleSize,
    seed: int,
    progress: Advance = silent,
    *,
    workers: int = 1,
) -> VersionReport:
    """Render the sample, and write its triplets as the next version of the shards in `out`.

    An identity that is complete in `work` is kept, so an interrupted call may be made again.

    Args:
        work: gets the images and masks; needed only until this returns.
        out: the shards' folder.
        size: how much to render.
        seed: of the sample; the same seed gives the same bytes, whatever `workers` is.
        progress: told how many identities are rendered.
        workers: processes.

    Raises:
        OSError: a folder cannot be written.
        ShardError: the shards cannot be written.
    """
    folder = work / f"{seed}-{size.shots}-{size.pairs}"
    tasks = [_Task(folder, seed, identity, size) for identity in range(size.identities)]
    kept: list[Triplet] = []
    tests: list[Sequence[Triplet]] = []
    for done, found in enumerate(_rendered(tasks, workers), start=1):
        if size.split(done - 1) is Split.TEST:
            tests.append(found)
        else:
            kept += found
        progress(done, len(tasks))
    return write_version([*kept, *choose_by_scenario(tests, size.per_scenario)], out)


def choose_by_scenario(identities: Iterable[Sequence[Triplet]], per_scenario: int) -> list[Triplet]:
    """The paper's test protocol: up to `per_scenario` pairs for each scenario, no pair twice.

    Pairs are offered one of each identity in turn; a pair that several scenarios could use goes to the
    one that has fewest.
    """
    chosen: list[Triplet] = []
    filled = dict.fromkeys(Scenario, 0)
    waiting = [list(own) for own in identities]
    while any(waiting):
        for own in waiting:
            if not own:
                continue
            offered = own.pop(0)
            open_to = [one for one in scenarios(offered.conflicts) if filled[one] < per_scenario]
            if open_to:
                filled[min(open_to, key=filled.__getitem__)] += 1
                chosen.append(offered)
    return chosen


def _rendered(tasks: Sequence[_Task], workers: int) -> Iterator[list[Triplet]]:
    """The triplets of each task, in order."""
    if workers == 1:
        yield from map(_render_identity, tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork could inherit another library's threads
    pool = ProcessPoolExecutor(min(workers, len(tasks)), spawn, initializer=_one_thread)
    try:
        yield from pool.map(_render_identity, tasks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _render_identity(task: _Task) -> list[Triplet]:
    """The triplets of one identity, their files written; those of a test identity are all there are."""
    folder = task.folder / identity_name(task.identity)
    split = task.size.split(task.identity)
    rng = np.random.default_rng(np.random.SeedSequence([task.seed, task.identity, 23]))
    shots = range(task.size.shots)
    ordered = [(gt, ref) for gt in shots for ref in shots if gt != ref]
    pairs = [ordered[number] for number in rng.permutation(len(ordered))]
    if split is not Split.TEST:
        pairs = pairs[: task.size.pairs]
    listed = folder / f"{split}-{_TRIPLETS}"
    if not listed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = _render(task, split, pairs, folder)
        lines = [describe(one).decode() for one in found]
        write_atomically(listed, json.dumps(lines).encode())
        return found
    return [
        restore(line.encode(), _files(folder, gt, ref))
        for line, (gt, ref) in zip(json.loads(listed.read_text()), pairs, strict=True)
    ]


def _render(
    task: _Task, split: Split, pairs: Sequence[tuple[int, int]], folder: Path
) -> list[Triplet]:
    from dataset_engine.faces.quality import perceptual_hash  # noqa: PLC0415 - slow to import

    person = Person(task.seed, task.identity)
    drawn = {index: person.shot(index) for index in range(task.size.shots)}
    taken = {index: shoot(person, shot) for index, shot in drawn.items()}
    for index, photograph in taken.items():
        image, region = _image(folder, index), _region(folder, index)
        image.write_bytes(encode_jpeg(photograph.image))
        region.write_bytes(encode_mask_png(photograph.region))
    hashes = {index: perceptual_hash(photograph.image) for index, photograph in taken.items()}
    found = []
    for gt, ref in pairs:
        exact = compare(person, drawn[gt], drawn[ref], taken[ref])
        files = _files(folder, gt, ref)
        files["mask.png"].write_bytes(encode_mask_png(exact.mask))
        found.append(
            Triplet(
                key=f"{identity_name(task.identity)}-{shot_name(gt)}-{shot_name(ref)}",
                identity=identity_name(task.identity),
                split=split,
                gt=files["gt.jpg"],
                ref=files["ref.jpg"],
                gt_region=files["gt.region.png"],
                ref_region=files["ref.region.png"],
                mask=files["mask.png"],
                conflicts=tuple(sorted(exact.conflicts)),
                status=Status.ACCEPTED,
                round=0,
                annotator=ANNOTATOR,
                model_version=None,
                gt_phash=hashes[gt],
                ref_phash=hashes[ref],
                gt_points=_points(taken[gt]),
                ref_points=_points(taken[ref]),
                source=SOURCE,
                licence=LICENCE,
            )
        )
    return found


def _points(photograph: Photograph) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in photograph.geometry.five_points)


def _image(folder: Path, shot: int) -> Path:
    return folder / f"{shot_name(shot)}.jpg"


def _region(folder: Path, shot: int) -> Path:
    return folder / f"{shot_name(shot)}.region.png"


def _files(folder: Path, gt: int, ref: int) -> dict[str, Path]:
    mask = folder / f"{shot_name(gt)}-{shot_name(ref)}.mask.png"
    paths = (_image(folder, gt), _region(folder, gt), mask, _image(folder, ref))
    return dict(zip(FILE_MEMBERS, (*paths, _region(folder, ref)), strict=True))

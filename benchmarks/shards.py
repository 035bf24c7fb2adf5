"""Shards side by side with webdataset: writing, reading as stored, reading decoded. Prints ratios.

    python benchmarks/shards.py [--triplets 2000] [--rounds 5]

Every figure is the median over the rounds, in one process; each round runs all contestants one after
another, so that a busy machine slows them alike. The bytes are the same for all: two JPEGs of faces-like
pictures, three 1-bit PNGs and a description, about 180 KB a triplet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import webdataset

from dataset_engine.shards import RefSelShards, Triplet, epoch_order, verify, write_version
from dataset_engine.shards.index import ShardEntry, encode_shard, shard_path
from dataset_engine.shards.leaks import near_duplicates
from dataset_engine.shards.tar import ShardFile
from dataset_engine.shards.triplet import FILE_MEMBERS, describe
from dataset_engine.taxonomy import Conflict, Split, Status

DISTINCT = 100
PER_SHARD = 1000
POINTS = ((193.0, 240.0), (319.0, 240.2), (256.6, 314.0), (201.3, 371.4), (313.1, 371.2))


def picture(random: np.random.Generator, path: Path) -> Path:
    """A smooth picture with fine texture that takes about 85 KB at quality 98 and 4:4:4."""
    coarse = cv2.resize(random.integers(30, 225, (8, 8, 3), dtype=np.uint8), (512, 512))
    texture = cv2.GaussianBlur(random.normal(0, 9, (512, 512, 1)).astype(np.float32), (0, 0), 0.8)
    image = np.clip(coarse + texture[..., None], 0, 255).astype(np.uint8)
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 93, *sampling])
    return path


def region(random: np.random.Generator, path: Path, *, hole: bool) -> Path:
    """An oval as a 1-bit PNG; a mask has a hole within it."""
    image = np.zeros((512, 512), np.uint8)
    cv2.ellipse(image, (256, 270), (140, 190), 0, 0, 360, 255, -1)
    if hole:
        points = random.integers(200, 330, (9, 2)).astype(np.int32)
        cv2.fillPoly(image, [points], 0)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return path


def make_triplets(folder: Path, count: int) -> list[Triplet]:
    """`count` triplets over `DISTINCT` sets of files."""
    random = np.random.default_rng(0)
    files = [
        {
            "gt": picture(random, folder / f"{n}-gt.jpg"),
            "ref": picture(random, folder / f"{n}-ref.jpg"),
            "gt_region": region(random, folder / f"{n}-gt-region.png", hole=False),
            "ref_region": region(random, folder / f"{n}-ref-region.png", hole=False),
            "mask": region(random, folder / f"{n}-mask.png", hole=True),
        }
        for n in range(DISTINCT)
    ]
    return [
        Triplet(
            key=f"pair-{n:07d}",
            identity=f"person-{n // 10:06d}",
            split=Split.TRAIN,
            **files[n % DISTINCT],
            conflicts=(Conflict.MOUTH,),
            status=Status.ACCEPTED,
            round=0,
            annotator="bench",
            model_version=None,
            gt_phash="0" * 16,
            ref_phash="f" * 16,
            gt_points=POINTS,
            ref_points=POINTS,
            source="drawn",
            licence="CC0-1.0",
        )
        for n in range(count)
    ]


def clean(folder: Path) -> Path:
    """An empty folder, with no earlier writing still on its way to the disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    return folder


def write_webdataset(samples: list[tuple[Triplet, dict[str, bytes]]], folder: Path) -> None:
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=PER_SHARD, verbose=0) as writer:
        for triplet, members in samples:
            writer.write({"__key__": triplet.key, **members})


def write_ours(samples: list[tuple[Triplet, dict[str, bytes]]], folder: Path) -> None:
    """Member and shard SHA-256, index, fsync and rename: the writing half of an export."""
    (folder / "train").mkdir()
    lines = []
    for number, start in enumerate(range(0, len(samples), PER_SHARD)):
        path = shard_path(Split.TRAIN, number)
        with ShardFile(folder / path) as shard:
            for triplet, members in samples[start : start + PER_SHARD]:
                shard.add(triplet.key, triplet.identity, triplet.conflicts, members)
        entry = ShardEntry(path, Split.TRAIN, True, shard.sha256, shard.size, tuple(shard.samples))
        lines.append(encode_shard(entry))
    with (folder / "index.json").open("wb") as file:
        file.write(b"\n".join(lines))
        os.fsync(file.fileno())


def read_members(triplets: list[Triplet]) -> list[tuple[Triplet, dict[str, bytes]]]:
    stored: dict[Path, bytes] = {}
    for triplet in triplets[:DISTINCT]:
        stored |= {path: path.read_bytes() for path in triplet.files}
    return [
        (
            triplet,
            {"json": describe(triplet)}
            | dict(zip(FILE_MEMBERS, (stored[p] for p in triplet.files), strict=True)),
        )
        for triplet in triplets
    ]


def read_webdataset(tars: list[str], number: int, decoder: str | None = None) -> None:
    dataset = webdataset.WebDataset(tars, shardshuffle=False)
    samples = iter(dataset.decode(decoder) if decoder else dataset)
    for _ in range(number):
        next(samples)


def read_all(read: Callable[[int], object], order: list[int]) -> None:
    for number in order:
        read(number)


def decode_floor(members: list[dict[str, memoryview]]) -> None:
    """Nothing but OpenCV's decoders on bytes that are already there."""
    for sample in members:
        for name, data in sample.items():
            if name != "json":
                flags = cv2.IMREAD_COLOR_RGB if name.endswith(".jpg") else cv2.IMREAD_GRAYSCALE
                cv2.imdecode(np.frombuffer(data, np.uint8), flags)


class Times:
    """Times contestants round by round."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def take(self, name: str, number: int, run: Callable[..., object], *arguments: object) -> None:
        """Run once and note milliseconds a triplet."""
        start = time.perf_counter()
        run(*arguments)
        taken = (time.perf_counter() - start) * 1e3 / number
        self._seconds.setdefault(name, []).append(taken)

    def ratio(self, one: str, other: str) -> float:
        """The median over the rounds of one's time over the other's in the same round."""
        pairs = zip(self._seconds[one], self._seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def show(self) -> None:
        """Print the median of each contestant."""
        for name, seconds in self._seconds.items():
            print(f"  {name:44} {statistics.median(seconds):8.4f} ms a triplet")


WRITE_THEIRS = "write: webdataset ShardWriter"
WRITE_OURS = "write: SHA-256, index, fsync, rename"
RAW_THEIRS = "read: webdataset, as stored, in order"
RAW_OURS = "read: RefSelShards.raw, random"
DECODE_THEIRS = "decode: webdataset rgb8"
DECODE_OURS = "decode: RefSelShards, random"
DECODE_FLOOR = "decode: floor, cv2.imdecode alone"


def export(triplets: list[Triplet], out: Path) -> None:
    # The drawn triplets share their pictures.
    write_version(triplets, out, allow=["near-duplicate"])


def measure(folder: Path, count: int, rounds: int) -> Times:
    times = Times()
    out = folder / "out"
    triplets = make_triplets(clean(folder / "store"), count)
    samples = read_members(triplets)
    size = sum(len(data) for _, members in samples for data in members.values()) / count
    print(f"{count} triplets of {size / 1000:.0f} KB, {rounds} rounds\n")
    for _ in range(rounds):
        for name, write in ((WRITE_THEIRS, write_webdataset), (WRITE_OURS, write_ours)):
            times.take(name, count, write, samples, clean(folder / "written"))
        times.take("export: with checks, files, card", count, export, triplets, clean(out))
    del samples
    tars = [str(path) for path in sorted((out / "v001/train").glob("*.tar"))]
    shards = RefSelShards(out, "train")
    checked = RefSelShards(out, "train", verify=True)
    some = min(count, 400)
    for number in range(rounds):
        order = epoch_order(count, 0, number).tolist()
        times.take(RAW_THEIRS, count, read_webdataset, tars, count)
        times.take(RAW_OURS, count, read_all, shards.raw, order)
        times.take("read: the same with SHA-256", count, read_all, checked.raw, order)
        members = [shards.raw(row) for row in order[:some]]
        times.take(DECODE_THEIRS, some, read_webdataset, tars, some, "rgb8")
        times.take(DECODE_OURS, some, read_all, shards.__getitem__, order[:some])
        times.take(DECODE_FLOOR, some, decode_floor, members)
    times.take("verify: every byte", count, verify, out)
    return times


def leak_check() -> float:
    """Seconds to look for near-duplicates among a million images, a tenth of them in another split."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 1_000_000, dtype=np.uint64)
    splits = (random.random(1_000_000) < 0.1).astype(np.uint8)
    start = time.perf_counter()
    near_duplicates(hashes, splits, 8)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triplets", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), options.triplets, options.rounds)
    times.show()
    write = times.ratio(WRITE_OURS, WRITE_THEIRS)
    raw = times.ratio(RAW_THEIRS, RAW_OURS)
    decoded = times.ratio(DECODE_THEIRS, DECODE_OURS)
    floor = times.ratio(DECODE_OURS, DECODE_FLOOR)
    leaks = leak_check()
    print(f"\n  write / webdataset's ShardWriter     {write:6.2f}   (at most 1.5)")
    print(f"  raw: webdataset / RefSelShards       {raw:6.1f}   (at least 10)")
    print(f"  decoded: webdataset / RefSelShards   {decoded:6.2f}   (at least 1.3)")
    print(f"  decoded: RefSelShards / floor        {floor:6.2f}   (at most 1.1)")
    print(f"  near-duplicates, 1,000,000 images    {leaks:6.1f} s")
    print(json.dumps({"write": write, "raw": raw, "decoded": decoded, "floor": floor}))


if __name__ == "__main__":
    main()

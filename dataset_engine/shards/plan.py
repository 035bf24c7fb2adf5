"""First pass of an export: every triplet is checked, hashed and noted; nothing is written to OUT.

What is kept in memory for a triplet is a key, two digests and a few numbers; the rest (paths and the
description) goes to an unnamed temporary file, so that memory hardly grows with the number of triplets.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import length_hint
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from dataset_engine.same_picture import same_picture
from dataset_engine.shards.counts import Counts
from dataset_engine.shards.errors import (
    IDENTITY_LEAK,
    MASK_OUTSIDE_REGION,
    NEAR_DUPLICATE,
    Finding,
    ShardError,
)
from dataset_engine.shards.images import Image, Mask, check_jpeg, check_png, decode_mask, decode_rgb
from dataset_engine.shards.index import LARGEST_MEMBER, content_digest
from dataset_engine.shards.leaks import near_duplicates
from dataset_engine.shards.tar import stored_size
from dataset_engine.shards.triplet import (
    DESCRIPTION,
    FILE_MEMBERS,
    MEMBERS,
    Triplet,
    check_triplet,
    describe,
)
from dataset_engine.taxonomy import Split

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and how much there is (None: unknown)."""

_SPLITS: Final = tuple(Split)
_BATCH: Final = 64
_PICTURES: Final = 64
"""Decoded images that are kept while near-duplicates are compared, 0.8 MB each."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A triplet that is left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One triplet to be written: its description and the paths of ``FILE_MEMBERS``."""

    key: str
    description: bytes
    files: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        """The description, parsed."""
        fields: dict[str, Any] = json.loads(self.description)
        return fields

    def members(self) -> dict[str, bytes]:
        """Read all members' bytes.

        Raises:
            ValueError: if a file is no plain file, or too large.
            OSError: if a file cannot be read.
        """
        return {
            DESCRIPTION: self.description,
            **{
                name: read_file(Path(path))
                for name, path in zip(FILE_MEMBERS, self.files, strict=True)
            },
        }


@dataclass(frozen=True, slots=True)
class _Checked:
    triplet: Triplet
    description: bytes
    digest: bytes
    images: tuple[int, int]
    size: int
    outside: int


class Plan:
    """All triplets that are fit to be exported; a row is a triplet's place in ``keys``.

    Attributes:
        keys: the keys, in the order in which they came.
        row: the row of each key.
        splits: index into ``Split`` of each row.
        digests: content digest of each row, 32 bytes.
        sizes: bytes in a tar of each row.
        counts: what the triplets are, for the manifest and the card.
        set_aside: the triplets that are left out.
    """

    def __init__(self, spool: BinaryIO) -> None:
        self.keys: list[str] = []
        self.row: dict[str, int] = {}
        self.splits = array("B")
        self.digests: list[bytes] = []
        self.sizes = array("q")
        self.counts = Counts()
        self.set_aside: list[SetAside] = []
        self._spool = spool
        self._places = array("q", [0])
        self._hashes = array("Q")
        self._images = array("Q")
        self._identities: dict[str, dict[Split, str]] = {}
        self._outside: list[str] = []
        self._outside_count = 0

    def split_rows(self, split: Split) -> list[int]:
        """The rows of one split, sorted by key."""
        number = _SPLITS.index(split)
        rows = [row for row, value in enumerate(self.splits) if value == number]
        return sorted(rows, key=self.keys.__getitem__)

    def planned(self, row: int) -> Planned:
        """What is needed to write a row."""
        start, end = self._places[row], self._places[row + 1]
        self._spool.flush()
        description, *files = os.pread(self._spool.fileno(), end - start, start).split(b"\0")
        return Planned(self.keys[row], description, tuple(os.fsdecode(name) for name in files))

    def findings(self, distance: int, progress: Progress) -> list[Finding]:
        """Everything for which an export is refused.

        Args:
            distance: bits in which the perceptual hashes of near-duplicates differ at most.
            progress: called with "comparing splits" as pairs of images are compared.

        Raises:
            ShardError: if an image that has to be compared does not decode.
            OSError: if it cannot be read.
        """
        return [
            finding
            for finding in (
                self._identity_leaks(),
                self._near_duplicates(distance, progress),
                Finding.of(MASK_OUTSIDE_REGION, self._outside, self._outside_count),
            )
            if finding.count
        ]

    def _identity_leaks(self) -> Finding:
        leaks = [
            f"identity {identity}: "
            + ", ".join(f"{split} (such as {key})" for split, key in sorted(places.items()))
            for identity, places in sorted(self._identities.items())
            if len(places) > 1
        ]
        return Finding.of(IDENTITY_LEAK, leaks)

    def _near_duplicates(self, distance: int, progress: Progress) -> Finding:
        picture = lru_cache(_PICTURES)(self._picture)
        compared = 0

        def confirm(first: int, second: int) -> bool:
            nonlocal compared
            compared += 1
            progress("comparing splits", compared, None)
            return same_picture(picture(first), picture(second))

        count, pairs = near_duplicates(
            np.frombuffer(self._hashes, np.uint64),
            np.frombuffer(self.splits, np.uint8).repeat(2),
            distance,
            images=np.frombuffer(self._images, np.uint64),
            confirm=confirm,
        )
        cases = [
            f"{self._image(pair.first)} and {self._image(pair.second)}: one picture, "
            f"{pair.distance} bits differ"
            for pair in pairs
        ]
        return Finding.of(NEAR_DUPLICATE, cases, count)

    def _picture(self, number: int) -> Image:
        row, reference = divmod(number, 2)
        member = "ref.jpg" if reference else "gt.jpg"
        path = Path(self.planned(row).files[FILE_MEMBERS.index(member)])
        try:
            return decode_rgb(read_file(path))
        except ValueError as error:
            raise ShardError(
                f"{path}: {error}. Restore the file, or remove the pair {self.keys[row]}."
            ) from error

    def _image(self, number: int) -> str:
        row, reference = divmod(number, 2)
        image = "reference" if reference else "ground truth"
        return f"{self.keys[row]} ({image}, {_SPLITS[self.splits[row]]})"

    def add(self, checked: _Checked) -> None:
        """Note a triplet that passed its checks; a key that is already there is set aside."""
        triplet = checked.triplet
        if triplet.key in self.row:
            self.set_aside.append(SetAside(triplet.key, "its key occurs twice; the first is kept"))
            return
        record = b"\0".join((checked.description, *map(os.fsencode, triplet.files)))
        self._spool.write(record)
        self._places.append(self._places[-1] + len(record))
        self.row[triplet.key] = len(self.keys)
        self.keys.append(triplet.key)
        self.splits.append(_SPLITS.index(triplet.split))
        self.digests.append(checked.digest)
        self.sizes.append(checked.size)
        self._hashes.extend((int(triplet.gt_phash, 16), int(triplet.ref_phash, 16)))
        self._images.extend(checked.images)
        self._identities.setdefault(triplet.identity, {}).setdefault(triplet.split, triplet.key)
        self.counts.add(triplet)
        if checked.outside:
            self._outside_count += 1
            if len(self._outside) < 10:
                self._outside.append(f"{triplet.key}: {checked.outside} px of {triplet.mask}")


def make_plan(triplets: Iterable[Triplet], spool: BinaryIO, progress: Progress) -> Plan:
    """Check all triplets, on as many threads as there are processors.

    Args:
        triplets: in any order; only a batch of them is held at a time.
        spool: an empty file, open for writing and reading, for as long as the plan is used.
        progress: called with "checking triplets".
    """
    total = length_hint(triplets) or None
    plan = Plan(spool)
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(triplets):
            for result in pool.map(_inspect, batch):
                if isinstance(result, SetAside):
                    plan.set_aside.append(result)
                else:
                    plan.add(result)
            done += len(batch)
            progress("checking triplets", done, total)
    return plan


def read_file(path: Path) -> bytes:
    """All bytes of a plain file of at most 32 MiB.

    Raises:
        ValueError: if it is something else, or larger.
        OSError: if it cannot be read.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - from a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a plain file")
        if status.st_size > LARGEST_MEMBER:
            raise ValueError(f"{status.st_size} bytes, more than any 512x512 image takes")
        return file.read()


def _batches(triplets: Iterable[Triplet]) -> Iterator[list[Triplet]]:
    iterator = iter(triplets)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _inspect(triplet: Triplet) -> _Checked | SetAside:
    """Check one triplet's fields and files."""
    try:
        check_triplet(triplet)
        members = {DESCRIPTION: describe(triplet)}
    except (ValueError, TypeError, UnicodeError) as error:
        return SetAside(triplet.key, str(error))
    masks: dict[str, Mask] = {}
    for name, path in zip(FILE_MEMBERS, triplet.files, strict=True):
        try:
            data = members[name] = read_file(path)
            if name.endswith(".jpg"):
                check_jpeg(data)
            elif name == "gt.region.png":
                check_png(data)
            else:
                masks[name] = decode_mask(data)
        except OSError as error:
            return SetAside(triplet.key, f"{path}: {error.strerror or error}")
        except ValueError as error:
            return SetAside(triplet.key, f"{path}: {error}")
    digests = {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBERS}
    return _Checked(
        triplet,
        members[DESCRIPTION],
        content_digest(digests.values()),
        (int(digests["gt.jpg"][:16], 16), int(digests["ref.jpg"][:16], 16)),
        stored_size(len(data) for data in members.values()),
        int(np.count_nonzero(masks["mask.png"] & ~masks["ref.region.png"])),
    )

"""Check a published version byte by byte and name what is broken."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataset_engine.shards.files import file_sha256
from dataset_engine.shards.images import decode_mask, decode_rgb
from dataset_engine.shards.index import BLOCK, MANIFEST, Index, SampleEntry, ShardEntry
from dataset_engine.shards.plan import Progress
from dataset_engine.shards.tar import end_of_tar, header, padding
from dataset_engine.shards.triplet import DESCRIPTION, MEMBERS

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something broken: the file, the sample and member where they are known, and the cause."""

    path: Path
    key: str | None
    member: str | None
    cause: str

    def __str__(self) -> str:
        sample = f": sample {self.key}" if self.key else ""
        member = f": {self.member}" if self.member else ""
        return f"{self.path}{sample}{member}: {self.cause}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked, and what is broken.

    Attributes:
        version: the version's name.
        shards, samples: how many the index has.
        size: bytes of shards that were read.
        problems: everything that is broken.
    """

    version: str
    shards: int
    samples: int
    size: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.problems


def verify(
    location: Path, *, decode: bool = False, progress: Progress | None = None
) -> VerifyReport:
    """Re-check every byte of a version against its index and its manifest.

    Args:
        location: OUT, of which the latest version is taken, or OUT/vNNN.
        decode: also decode every image and mask.
        progress: called as ("verifying shards", shards done, shards in all).

    Raises:
        ShardError: if there is no version at ``location`` or its index or manifest is damaged, so that
            there is nothing to compare with.
    """
    index = Index(location)
    manifest = index.manifest()
    problems = list(_described_files(index.folder, manifest["files"]))
    problems += _parents(index.folder, manifest["parents"])
    shards = samples = size = 0
    listed: set[Path] = set()
    for entry in index.shards():
        path = index.folder / entry.path
        listed.add(path)
        problems += _shard(path, entry, decode=decode)
        shards += 1
        samples += len(entry.samples)
        size += path.stat().st_size if path.is_file() else 0
        if progress:
            progress("verifying shards", shards, manifest["shards"])
    for path in sorted(index.folder.glob("*/*.tar")):
        if path not in listed:
            problems.append(Problem(path, None, None, "it is not in the index"))
    return VerifyReport(index.version, shards, samples, size, tuple(problems))


def _described_files(folder: Path, files: dict[str, str]) -> Iterator[Problem]:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            yield Problem(path, None, None, "it is missing")
        elif file_sha256(path) != expected:
            yield Problem(path, None, None, f"its SHA-256 is not the one in {MANIFEST}")


def _parents(folder: Path, parents: list[dict[str, str]]) -> Iterator[Problem]:
    """A parent may have been deleted; one that is there has to be the one that was built on."""
    for parent in parents:
        path = folder.parent / parent["version"] / MANIFEST
        if path.is_file() and file_sha256(path) != parent["manifest_sha256"]:
            yield Problem(
                path, None, None, f"it is not the parent that {folder.name} was made from"
            )


def _shard(path: Path, entry: ShardEntry, *, decode: bool) -> Iterator[Problem]:
    """One pass over a shard, every byte of which is a header, a member, padding or the end."""
    try:
        file = path.open("rb")
    except OSError as error:
        yield Problem(path, None, None, f"it cannot be read: {error.strerror}")
        return
    whole = hashlib.sha256()
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.size:
            yield Problem(path, None, None, f"it has {size} bytes and the index says {entry.size}")
        found = False
        for sample in entry.samples:
            block = file.read(sample.end + len(padding(sample.end)) - file.tell())
            whole.update(block)
            for problem in _sample(path, sample, block, decode=decode):
                found = True
                yield problem
        rest = file.read(_CHUNK)
        whole.update(rest)
        if rest != end_of_tar(file.tell() - len(rest)):
            found = True
            yield Problem(path, None, None, "it does not end where its last sample does")
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    if whole.hexdigest() != entry.sha256 and not found:
        yield Problem(path, None, None, "its SHA-256 is not the one in the index")


def _sample(path: Path, sample: SampleEntry, block: bytes, *, decode: bool) -> Iterator[Problem]:
    base = sample.start - BLOCK
    for name in MEMBERS:
        place = sample.members[name]
        at = place.offset - base
        data = block[at : at + place.size]
        if len(data) != place.size:
            yield Problem(path, sample.key, name, "the shard is cut off")
            return
        if hashlib.sha256(data).hexdigest() != place.sha256:
            yield Problem(path, sample.key, name, "its SHA-256 is not the one in the index")
        elif decode and name != DESCRIPTION:
            try:
                (decode_rgb if name.endswith(".jpg") else decode_mask)(data)
            except ValueError as error:
                yield Problem(path, sample.key, name, str(error))
        tail = padding(place.size)
        if block[at - BLOCK : at] != header(f"{sample.key}.{name}", place.size):
            yield Problem(path, sample.key, name, "its tar header is not the one that was written")
        if block[at + place.size : at + place.size + len(tail)] != tail:
            yield Problem(path, sample.key, name, "the bytes behind it are not the padding")

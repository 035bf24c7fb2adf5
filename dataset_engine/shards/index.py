"""The index of a version: which shards, which samples, and where each member's bytes lie.

``index.json`` is valid JSON laid out with one shard a line, so that a million samples are written and
read a shard at a time::

    {"format":1,"version":"v002","limits":{"samples":1000,"bytes":268435456},"shards":[
    {"path":"train/refsel-hq-000000.tar","split":"train","full":true,"sha256":"…","size":1,"samples":[
        {"key":"…","identity":"…","conflicts":["mouth"],"members":{"gt.jpg":[offset,size,"sha256"],…}},…]},
    …
    ]}

Offsets are bytes from the start of the shard to the member's data (its header is the 512 bytes before).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from dataset_engine.shards.errors import ShardError
from dataset_engine.shards.triplet import MEMBERS, is_key
from dataset_engine.taxonomy import Conflict, Split

FORMAT: Final = 1
INDEX: Final = "index.json"
MANIFEST: Final = "manifest.json"
LATEST: Final = "latest"

BLOCK: Final = 512
"""Bytes of a tar header; members are padded to a multiple of it."""

LARGEST_MEMBER: Final = 32 * 2**20
"""Bytes that no member reaches: an uncompressed 512x512 RGB image has 0.8 MB."""

_SHARD_PATH: Final = re.compile(r"(train|validation|test)/refsel-hq-\d{6}\.tar")
_VERSION: Final = re.compile(r"v\d{3,}")
_NAME: Final = re.compile(r"\w[\w./-]{0,254}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_END: Final = b"]}\n"


class Member(NamedTuple):
    """Where one file lies in its shard: offset and size in bytes, and its SHA-256 in hex."""

    offset: int
    size: int
    sha256: str


class SampleEntry(NamedTuple):
    """One sample of a shard; ``members`` has an entry for each of ``MEMBERS``, in that order."""

    key: str
    identity: str
    conflicts: tuple[Conflict, ...]
    members: Mapping[str, Member]

    @property
    def start(self) -> int:
        """Offset of the first member's data, bytes."""
        return self.members[MEMBERS[0]].offset

    @property
    def end(self) -> int:
        """Offset behind the last member's data, bytes."""
        last = self.members[MEMBERS[-1]]
        return last.offset + last.size


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: its path in the version's folder, whether a limit closed it, and its samples."""

    path: str
    split: Split
    full: bool
    sha256: str
    size: int
    samples: tuple[SampleEntry, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a shard may grow: samples, and bytes of its tar."""

    samples: int = 1000
    bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        if self.samples < 1 or self.bytes < 1:
            raise ValueError("a shard has to hold at least one sample and one byte")


def shard_path(split: Split, number: int) -> str:
    """A shard's path in its version's folder."""
    return f"{split}/refsel-hq-{number:06d}.tar"


def content_digest(sha256: Iterable[str]) -> bytes:
    """One digest, 32 bytes, for a sample's members, whose SHA-256 come in the order of ``MEMBERS``."""
    return hashlib.sha256("".join(sha256).encode()).digest()


def recipe(samples: Iterable[tuple[str, bytes]]) -> bytes:
    """One digest, 32 bytes, for (key, content digest) in order: it decides a shard's every byte."""
    whole = hashlib.sha256()
    for key, digest in samples:
        whole.update(key.encode() + b"\0" + digest)
    return whole.digest()


def entry_recipe(entry: ShardEntry) -> bytes:
    """The recipe that the samples of an index entry follow."""
    return recipe(
        (sample.key, content_digest(member.sha256 for member in sample.members.values()))
        for sample in entry.samples
    )


def encode_shard(entry: ShardEntry) -> bytes:
    """The shard's line of the index, without the line's end."""
    line = {
        "path": entry.path,
        "split": entry.split,
        "full": entry.full,
        "sha256": entry.sha256,
        "size": entry.size,
        "samples": [sample._asdict() for sample in entry.samples],
    }
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()


def decode_shard(line: bytes) -> ShardEntry:
    """The shard of an index line; everything in it is checked before it is believed.

    Raises:
        ValueError: if a field is missing, or a path, offset or digest cannot be right.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
        entry = ShardEntry(
            path=fields["path"],
            split=Split(fields["split"]),
            full=bool(fields["full"]),
            sha256=fields["sha256"],
            size=int(fields["size"]),
            samples=tuple(_samples(fields["samples"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a shard's line lacks {error}") from error
    except (AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a shard's line is of another form: {error}") from error
    if not _SHARD_PATH.fullmatch(entry.path) or not entry.path.startswith(f"{entry.split}/"):
        raise ValueError(f"{entry.path!r} is not where a shard of {entry.split} lies")
    if not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"{entry.path}: its SHA-256 is not one")
    if entry.samples and entry.samples[-1].end > entry.size:
        raise ValueError(f"{entry.path}: a sample lies behind the shard's end")
    return entry


def _samples(entries: Iterable[Mapping[str, Any]]) -> Iterator[SampleEntry]:
    """Check that the members follow one another without a gap, so that no byte goes unchecked."""
    at = 0
    for fields in entries:
        key = fields["key"]
        if not is_key(key):
            raise ValueError(f"{key!r} is not a sample's key")
        identity = fields["identity"]
        if not isinstance(identity, str):
            raise ValueError(f"{key}: its identity is no name")
        identity.encode()  # what is no text is a ValueError here, not where it is used
        members: dict[str, Member] = {}
        for name in MEMBERS:
            offset, size, sha256 = fields["members"][name]
            whole = isinstance(offset, int) and isinstance(size, int)
            if not whole or offset != at + BLOCK or not 0 <= size <= LARGEST_MEMBER:
                raise ValueError(f"{key}.{name}: its place cannot be right")
            if not _SHA256.fullmatch(sha256):
                raise ValueError(f"{key}.{name}: its SHA-256 is not one")
            members[name] = Member(offset, size, sha256)
            at = offset + size + -size % BLOCK
        conflicts = tuple(Conflict(name) for name in fields["conflicts"])
        yield SampleEntry(key, identity, conflicts, members)


def write_index(path: Path, version: str, limits: Limits, lines: Iterable[bytes]) -> None:
    """Write an index from its shards' lines; the caller fsyncs and renames."""
    head = {
        "format": FORMAT,
        "version": version,
        "limits": {"samples": limits.samples, "bytes": limits.bytes},
    }
    with path.open("wb") as file:
        file.write(json.dumps(head, separators=(",", ":"))[:-1].encode() + b',"shards":[')
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"\n") + line)
        file.write(b"\n" + _END)


class Index:
    """A version's index, opened; its shards are read as they are asked for.

    Attributes:
        folder: the version's folder.
        version: the version's name, such as ``v001``.
        limits: the limits that its shards were written under.
    """

    def __init__(self, location: Path) -> None:
        """Open the index of ``location``: OUT, of which the latest version is taken, or OUT/vNNN.

        Raises:
            ShardError: if there is none, or it is of another format.
        """
        self.folder = find_version(location)
        self.path = self.folder / INDEX
        try:
            with self.path.open("rb") as file:
                head = json.loads(file.readline() + _END)
            if head["format"] != FORMAT:
                raise ShardError(
                    f"{self.path}: format {head['format']}, and this engine reads {FORMAT}. "
                    "Use the engine that wrote it."
                )
            self.version = str(head["version"])
            self.limits = Limits(head["limits"]["samples"], head["limits"]["bytes"])
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._damaged(error) from error

    def shards(self) -> Iterator[ShardEntry]:
        """All shards, in the order of the index.

        Raises:
            ShardError: if the index is damaged; the last step compares it with the manifest.
        """
        for _, entry in self.lines():
            yield entry

    def lines(self) -> Iterator[tuple[int, ShardEntry]]:
        """All shards, each with the byte at which its line starts.

        Raises:
            ShardError: as ``shards``.
        """
        whole = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                whole.update(line := file.readline())
                at = len(line)
                while (line := file.readline()) != _END:
                    if not line:
                        raise ValueError("it ends too early, or its lines were laid out anew")
                    whole.update(line)
                    if line != b"\n":
                        yield at, decode_shard(line.rstrip(b",\n"))
                    at += len(line)
                whole.update(line)
            if whole.hexdigest() != self.manifest()["files"][INDEX]:
                raise ValueError(f"its SHA-256 is not the one in {MANIFEST}")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def line_at(self, offset: int) -> ShardEntry:
        """The shard whose line starts at byte ``offset``."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return decode_shard(file.readline().rstrip(b",\n"))

    def manifest(self) -> dict[str, Any]:
        """The version's manifest: parents, difference, counts and the other files' SHA-256.

        Raises:
            ShardError: if it is missing or damaged.
        """
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ShardError(
                f"{path}: {error}. Restore the file from a copy of {self.version}."
            ) from error
        if not isinstance(manifest, dict) or not _is_sound(manifest):
            raise ShardError(f"{path}: not a manifest. Restore it from a copy of {self.version}.")
        return manifest

    def _damaged(self, cause: Exception) -> ShardError:
        return ShardError(f"{self.path}: {cause}. Restore the file from a copy, or export again.")


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether what the engine reads of a manifest has its form, and names nothing outside the set."""
    files, parents = manifest.get("files"), manifest.get("parents")
    return (
        isinstance(manifest.get("shards"), int)
        and isinstance(files, dict)
        and all(_NAME.fullmatch(name) and ".." not in name for name in files)
        and isinstance(parents, list)
        and all(
            isinstance(parent, dict)
            and _VERSION.fullmatch(str(parent.get("version"))) is not None
            and isinstance(parent.get("manifest_sha256"), str)
            for parent in parents
        )
    )


def versions(out: Path) -> list[str]:
    """The names of the complete versions in ``out``, oldest first."""
    found = [path.name for path in out.glob("v*") if _VERSION.fullmatch(path.name)]
    return sorted(found, key=lambda name: int(name[1:]))


def has_versions(location: Path) -> bool:
    """Whether a folder is an export, or a version of one; `find_version` says what it lacks."""
    marked = (location / INDEX).is_file() or (location / LATEST).is_file()
    # a person's folder may be named as a version is
    return marked or any((location / name / INDEX).is_file() for name in versions(location))


def find_version(location: Path) -> Path:
    """The version's folder for ``location``: OUT (its latest) or OUT/vNNN.

    Raises:
        ShardError: if there is no version.
    """
    if (location / INDEX).is_file():
        return location
    pointer = location / LATEST
    try:
        name = pointer.read_text().strip()
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{location}: holds neither {INDEX} nor {LATEST}, so it is no exported data set. "
            "Give the folder that `engine export` wrote, or one of its versions."
        ) from error
    if not _VERSION.fullmatch(name) or not (location / name / INDEX).is_file():
        raise ShardError(
            f"{pointer}: names {name!r}, and there is no such version. "
            f"Write one of {', '.join(versions(location)) or 'no versions'} into it."
        )
    return location / name

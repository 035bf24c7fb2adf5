"""A shard being written: a USTAR file whose bytes depend on its samples alone.

Time, owner, group and mode are fixed, and nothing of the machine enters. Header fields are put
together directly: ``tarfile`` takes longer for a header than it takes to hash the member.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from dataset_engine.shards.files import TEMPORARY, naming, sync_folder
from dataset_engine.shards.index import BLOCK, Member, SampleEntry
from dataset_engine.shards.triplet import MEMBERS
from dataset_engine.taxonomy import Conflict

RECORD: Final = 10240
_ZEROS: Final = bytes(BLOCK)

_BEFORE_SIZE: Final = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE: Final = b"00000000000\0"
_AFTER_SUM: Final = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
_FIXED_SUM: Final = sum(_BEFORE_SIZE) + sum(_AFTER_SIZE) + sum(_AFTER_SUM) + 8 * ord(" ")


def header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a plain file of ``size`` bytes with mode 0644 and time 0."""
    encoded = name.encode("ascii").ljust(100, b"\0")
    digits = b"%011o\0" % size
    total = _FIXED_SUM + sum(encoded) + sum(digits)
    return b"".join((encoded, _BEFORE_SIZE, digits, _AFTER_SIZE, b"%06o\0 " % total, _AFTER_SUM))


def padding(size: int) -> bytes:
    """The zeros between a member of ``size`` bytes and the next header."""
    return _ZEROS[: -size % BLOCK]


def stored_size(sizes: Iterable[int]) -> int:
    """Bytes that members of these sizes take in a tar, headers and padding included."""
    return sum(BLOCK + size + -size % BLOCK for size in sizes)


def end_of_tar(size: int) -> bytes:
    """The zeros that end a tar whose members take ``size`` bytes."""
    end = 2 * BLOCK
    return bytes(end + -(size + end) % RECORD)


class ShardFile:
    """Writes one shard under a temporary name and gives it its own when it is complete.

    Attributes:
        size: bytes written so far; the shard's size once it is closed.
        samples: the index entries of the samples added so far.
        sha256: the shard's SHA-256 in hex, empty until it is closed.

    Example:
        with ShardFile(path) as shard:
            shard.add(key, identity, conflicts, members)
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.samples: list[SampleEntry] = []
        self.sha256 = ""
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        self._file: BinaryIO = self._temporary.open("wb", buffering=0)
        self._hash = hashlib.sha256()

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(
        self, key: str, identity: str, conflicts: tuple[Conflict, ...], members: Mapping[str, bytes]
    ) -> None:
        """Append one sample; ``members`` maps each of ``MEMBERS`` to its bytes.

        Raises:
            OSError: if the disk is full or fails.
        """
        pieces: list[bytes] = []
        places: dict[str, Member] = {}
        at = self.size
        for member in MEMBERS:
            data = members[member]
            size = len(data)
            pieces += (header(f"{key}.{member}", size), data, padding(size))
            places[member] = Member(at + BLOCK, size, hashlib.sha256(data).hexdigest())
            at += BLOCK + size + -size % BLOCK
        self._write(b"".join(pieces))
        self.samples.append(SampleEntry(key, identity, conflicts, places))

    def _write(self, block: bytes) -> None:
        self._hash.update(block)
        self.size += len(block)
        rest = memoryview(block)
        with naming(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def _finish(self) -> None:
        self._write(end_of_tar(self.size))
        os.fchmod(self._file.fileno(), 0o444)
        with naming(self._path):
            os.fsync(self._file.fileno())
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)
        self.sha256 = self._hash.hexdigest()

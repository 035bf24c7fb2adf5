"""RefSel-HQ shards as a map-style PyTorch dataset: random access by offset, nothing is extracted."""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dataset_engine.shards.errors import IDENTITY_LEAK, CorruptSampleError, ShardError
from dataset_engine.shards.images import Image, Mask, decode_mask, decode_rgb
from dataset_engine.shards.index import Index, SampleEntry, ShardEntry
from dataset_engine.shards.triplet import MEMBERS
from dataset_engine.taxonomy import Conflict, Split

_OPEN_SHARDS: Final = 128
_SHA256: Final = 32
_CONFLICTS: Final = tuple(Conflict)

logger = logging.getLogger(__name__)


class RefSelSample(NamedTuple):
    """One decoded triplet.

    Attributes:
        gt: the ground truth I, uint8 RGB [512, 512, 3].
        reference: the reference I_ref, uint8 RGB [512, 512, 3].
        mask: M on the reference's pixels, bool [512, 512].
        gt_region: the ground truth's face region, bool [512, 512].
        ref_region: the reference's face region, bool [512, 512].
        key: the sample's name.
        identity: the person.
        conflicts: the conflicts that a person named.
    """

    gt: Image
    reference: Image
    mask: Mask
    gt_region: Mask
    ref_region: Mask
    key: str
    identity: str
    conflicts: tuple[Conflict, ...]


class RefSelShards(Dataset[RefSelSample]):
    """The samples of one split, by number, in the order of the index.

    A sample takes about 100 bytes, its key and its identity, in arrays that forked workers share. Shards
    are opened when they are first read and read with ``pread``, which keeps no position, so that workers
    and threads do not disturb one another.

    Args:
        location: OUT, of which the latest version is taken, or OUT/vNNN.
        split: "train", "validation" or "test".
        verify: compare every member with its SHA-256 when it is read. Without it only damage that keeps
            an image from being decoded is noticed.
        on_error: "raise" a ``CorruptSampleError``, or "skip": give the next sound sample instead, log
            it, and note the key in ``skipped``.
        allow: "identity-leak" lets a set with an identity in two splits be read.

    Raises:
        ShardError: if there is no version, its index is damaged, or an identity is in two splits.

    Attributes:
        version: the version's name.
        skipped: keys of the damaged samples met so far in this process.
    """

    def __init__(
        self,
        location: str | Path,
        split: Split | str,
        *,
        verify: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        allow: Iterable[str] = (),
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error is "raise" or "skip", not {on_error!r}')
        index = Index(Path(location))
        self.version = index.version
        self.split = Split(split)
        self.skipped: set[str] = set()
        self._folder = index.folder
        self._verify = verify
        self._skip = on_error == "skip"
        self._shards: list[str] = []
        table = _Table()
        homes: dict[str, Split] = {}
        for entry in index.shards():
            if IDENTITY_LEAK not in allow:
                _check_identities(index.path, entry, homes)
            if entry.split is self.split:
                table.add(entry, len(self._shards), digests=verify)
                self._shards.append(entry.path)
        self._keys = np.array(table.keys, np.bytes_)
        self._identities = np.array(table.identities, np.bytes_)
        self._conflicts = np.array(table.conflicts, np.uint8)
        self._shard = np.array(table.shards, np.int32)
        places = np.array(table.places).reshape(-1, len(MEMBERS), 2)
        self._start = places[:, 0, 0].copy()
        self._length = places[:, -1].sum(axis=1) - self._start
        self._offsets = (places[:, :, 0] - self._start[:, None]).astype(np.int32)
        self._sizes = places[:, :, 1].astype(np.int32)
        self._digests = np.frombuffer(bytes(table.digests), np.uint8).reshape(
            -1, len(MEMBERS), _SHA256
        )
        self._files: dict[int, _File] = {}

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: int) -> RefSelSample:
        """Decode a sample.

        Raises:
            IndexError: if there is no such sample.
            CorruptSampleError: if it is damaged; with ``on_error="skip"`` only if all samples are.
        """
        first = self._row(index)
        for step in range(len(self)):
            row = (first + step) % len(self)
            try:
                return self._decode(row)
            except CorruptSampleError as error:
                if not self._skip or step == len(self) - 1:
                    raise
                if error.key not in self.skipped:
                    self.skipped.add(error.key)
                    logger.warning("skipped: %s", error)
        raise IndexError(index)

    def raw(self, index: int) -> dict[str, memoryview]:
        """A sample's members as stored: ``gt.jpg``, ``mask.png``, ``json`` and so on.

        Raises:
            IndexError: if there is no such sample.
            CorruptSampleError: if the shard is missing or too short, or, with ``verify``, differs.
        """
        return self._read(self._row(index))

    def key(self, index: int) -> str:
        """A sample's key."""
        return bytes(self._keys[self._row(index)]).decode()

    def identity(self, index: int) -> str:
        """A sample's identity."""
        return bytes(self._identities[self._row(index)]).decode()

    def conflicts(self, index: int) -> tuple[Conflict, ...]:
        """A sample's conflicts, in the order of the taxonomy."""
        bits = int(self._conflicts[self._row(index)])
        return tuple(c for number, c in enumerate(_CONFLICTS) if bits >> number & 1)

    def _row(self, index: int) -> int:
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"{index} of {len(self)} samples")
        return row

    def _decode(self, row: int) -> RefSelSample:
        members = self._read(row)
        name = ""
        try:
            return RefSelSample(
                gt=decode_rgb(members[name := "gt.jpg"]),
                reference=decode_rgb(members[name := "ref.jpg"]),
                mask=decode_mask(members[name := "mask.png"]),
                gt_region=decode_mask(members[name := "gt.region.png"]),
                ref_region=decode_mask(members[name := "ref.region.png"]),
                key=self.key(row),
                identity=self.identity(row),
                conflicts=self.conflicts(row),
            )
        except ValueError as error:
            raise self._corrupt(row, f"{name}: {error}") from error

    def _read(self, row: int) -> dict[str, memoryview]:
        shard = int(self._shard[row])
        length = int(self._length[row])
        try:
            file = self._files.get(shard) or self._open(shard)
            data = os.pread(file.descriptor, length, int(self._start[row]))
        except OSError as error:
            raise self._corrupt(row, f"the shard cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise self._corrupt(row, "the shard is cut off")
        view = memoryview(data)
        members = {
            name: view[offset : offset + size]
            for name, offset, size in zip(
                MEMBERS, self._offsets[row].tolist(), self._sizes[row].tolist(), strict=True
            )
        }
        if self._verify:
            for name, expected in zip(MEMBERS, self._digests[row], strict=True):
                if hashlib.sha256(members[name]).digest() != expected.tobytes():
                    raise self._corrupt(row, f"{name}: its SHA-256 is not the one in the index")
        return members

    def _corrupt(self, row: int, cause: str) -> CorruptSampleError:
        shard = self._folder / self._shards[int(self._shard[row])]
        return CorruptSampleError(shard, self.key(row), cause)

    def _open(self, shard: int) -> _File:
        if len(self._files) >= _OPEN_SHARDS:
            self._files = {}
        file = self._files[shard] = _File(self._folder / self._shards[shard])
        return file

    def __getstate__(self) -> dict[str, object]:
        # A worker that is spawned opens the shards for itself.
        return {**self.__dict__, "_files": {}}


def collate(samples: Sequence[RefSelSample]) -> dict[str, list[object] | NDArray[np.generic]]:
    """A batch for a DataLoader's ``collate_fn``: arrays are stacked, words become lists.

    Returns:
        gt, reference: uint8 [B, 512, 512, 3]; mask, gt_region, ref_region: bool [B, 512, 512]; key,
        identity and conflicts: a list of B.
    """
    words = ("key", "identity", "conflicts")
    return {
        name: list(column) if name in words else np.stack(column)
        for name, column in zip(RefSelSample._fields, zip(*samples, strict=True), strict=True)
    }


class _File:
    """An open shard; closed when no thread uses it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _Table:
    """The columns of a split while its index is read."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.identities: list[bytes] = []
        self.conflicts = array("B")
        self.shards = array("i")
        self.places = array("q")
        self.digests = bytearray()

    def add(self, entry: ShardEntry, shard: int, *, digests: bool) -> None:
        for sample in entry.samples:
            self.keys.append(sample.key.encode())
            self.identities.append(sample.identity.encode())
            self.conflicts.append(_bits(sample))
            self.shards.append(shard)
            for place in sample.members.values():
                self.places.extend((place.offset, place.size))
                if digests:
                    self.digests += bytes.fromhex(place.sha256)


def _bits(sample: SampleEntry) -> int:
    return sum(1 << _CONFLICTS.index(conflict) for conflict in set(sample.conflicts))


def _check_identities(path: Path, entry: ShardEntry, homes: dict[str, Split]) -> None:
    for sample in entry.samples:
        home = homes.setdefault(sample.identity, entry.split)
        if home is not entry.split:
            raise ShardError(
                f"{path}: identity {sample.identity} is in {home} and in {entry.split} (sample "
                f"{sample.key}), so figures on these splits would mislead. Export again with the "
                f'identity in one split, or read it with allow=["{IDENTITY_LEAK}"].'
            )

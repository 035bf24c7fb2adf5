"""A published set comes back: its triplets, with their files in memory or written to a folder."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from dataset_engine.shards.errors import ShardError, UnsafeMemberError
from dataset_engine.shards.images import check_jpeg, check_png
from dataset_engine.shards.index import LARGEST_MEMBER, Index, ShardEntry
from dataset_engine.shards.plan import SetAside
from dataset_engine.shards.triplet import (
    DESCRIPTION,
    FILE_MEMBERS,
    MEMBERS,
    Triplet,
    is_key,
    restore,
)


@dataclass(frozen=True)
class Published:
    """One sample of a published set.

    Attributes:
        triplet: what its description says; its paths are names only, there are no such files.
        members: the bytes of each of ``FILE_MEMBERS``.
    """

    triplet: Triplet
    members: dict[str, bytes]


def read_triplets(
    location: Path, into: Path, *, set_aside: Callable[[SetAside], None]
) -> Iterator[Triplet]:
    """All triplets of a published version, one at a time, with their files in ``into``.

    As `read_published`, and a member is written only under a name that is made from a checked key, so
    nothing in the tars can choose a path.

    Args:
        location: OUT, of which the latest version is taken, or OUT/vNNN.
        into: where ``KEY.gt.jpg`` and so on are written; created if need be.
        set_aside: called for each sample that is left out.

    Raises:
        ShardError: as `read_published`.
        UnsafeMemberError: as `read_published`.
    """
    into.mkdir(parents=True, exist_ok=True)
    for published in read_published(location, set_aside=set_aside):
        files = {name: into / f"{published.triplet.key}.{name}" for name in FILE_MEMBERS}
        for name, path in files.items():
            if not (path.is_file() and path.read_bytes() == published.members[name]):
                path.write_bytes(published.members[name])
        yield replace(
            published.triplet,
            gt=files["gt.jpg"],
            ref=files["ref.jpg"],
            gt_region=files["gt.region.png"],
            ref_region=files["ref.region.png"],
            mask=files["mask.png"],
        )


def read_published(location: Path, *, set_aside: Callable[[SetAside], None]) -> Iterator[Published]:
    """All samples of a published version, one at a time.

    The tars are walked as a stranger's. A sample that is not sound (damaged, incomplete, not 512x512,
    without a proper description) is set aside.

    Args:
        location: OUT, of which the latest version is taken, or OUT/vNNN.
        set_aside: called for each sample that is left out.

    Raises:
        ShardError: if there is no version, its index is damaged, or a shard is no tar.
        UnsafeMemberError: if a shard holds a member that is not a plain file of a triplet.
    """
    index = Index(location)
    for entry in index.shards():
        try:
            yield from _shard(index.folder / entry.path, entry, set_aside)
        except (OSError, tarfile.TarError) as error:
            raise ShardError(
                f"{index.folder / entry.path}: {error}. Restore the shard from a copy; "
                "`engine verify` names all that is broken."
            ) from error


def _shard(
    path: Path, entry: ShardEntry, set_aside: Callable[[SetAside], None]
) -> Iterator[Published]:
    expected = {
        f"{sample.key}.{name}": place.sha256
        for sample in entry.samples
        for name, place in sample.members.items()
    }
    missing = {sample.key: None for sample in entry.samples}
    with tarfile.open(path, "r:") as tar:
        for key, members in groupby(tar, lambda member: _split_name(path, member)[0]):
            found: dict[str, bytes] = {}
            problem = ""
            missing.pop(key, None)
            for member in members:
                file = tar.extractfile(member)
                data = file.read() if file else b""
                if hashlib.sha256(data).hexdigest() != expected.get(member.name):
                    problem = problem or f"{member.name}: its SHA-256 is not the one in the index"
                found[_split_name(path, member)[1]] = data
            try:
                if problem:
                    raise ValueError(problem)
                yield _published(key, entry, found)
            except ValueError as error:
                set_aside(SetAside(key, f"{path}: {error}"))
    # A damaged header in the middle looks like the tar's end.
    for key in missing:
        set_aside(SetAside(key, f"{path}: the shard does not hold it any more"))


def _split_name(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and member name of a tar member that may be read."""
    key, _, name = member.name.partition(".")
    if not member.isreg() or not is_key(key) or name not in MEMBERS:
        raise UnsafeMemberError(
            f"{path}: holds {member.name!r}, which is not a plain file of a triplet. The shard was "
            "not written by `engine export`; do not import it."
        )
    if member.size > LARGEST_MEMBER:
        raise UnsafeMemberError(
            f"{path}: {member.name} claims {member.size} bytes, more than any 512x512 image takes. "
            "Do not import this shard."
        )
    return key, name


def _published(key: str, entry: ShardEntry, members: dict[str, bytes]) -> Published:
    if missing := set(MEMBERS) - set(members):
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    triplet = restore(members[DESCRIPTION], {name: Path(f"{key}.{name}") for name in FILE_MEMBERS})
    if triplet.key != key or triplet.split is not entry.split:
        raise ValueError(f"its description is of {triplet.key} in {triplet.split}")
    for name in FILE_MEMBERS:
        (check_jpeg if name.endswith(".jpg") else check_png)(members[name])
    return Published(triplet, {name: members[name] for name in FILE_MEMBERS})

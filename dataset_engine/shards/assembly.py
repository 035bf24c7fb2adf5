"""The shards of a version in the making: taken over, linked, or written.

In the folder of a version in the making, a shard's name means that it is complete and on the disk. Its
index line lies in a file beside it, and the shard is taken over by a resumed export when that line
follows the recipe that is planned now and the shard's bytes have the SHA-256 of the line.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dataset_engine.shards.errors import ShardError
from dataset_engine.shards.files import file_sha256, sync_folder, write_whole
from dataset_engine.shards.index import (
    ShardEntry,
    content_digest,
    decode_shard,
    encode_shard,
    entry_recipe,
)
from dataset_engine.shards.packing import Parent, PlannedShard
from dataset_engine.shards.plan import Plan
from dataset_engine.shards.tar import ShardFile
from dataset_engine.shards.triplet import MEMBERS
from dataset_engine.taxonomy import Conflict


class Assembly:
    """Makes the planned shards in ``folder``.

    Attributes:
        written, linked, resumed: how many shards were written, linked to the parent's, and found there.
    """

    def __init__(self, folder: Path, plan: Plan, parent: Parent) -> None:
        self.written = 0
        self.linked = 0
        self.resumed = 0
        self._folder = folder
        self._lines = folder / ".lines"
        self._plan = plan
        self._parent = parent

    def finish(self, shard: PlannedShard) -> None:
        """Make one shard, unless it is there.

        Raises:
            OSError: if the disk is full or fails.
            ShardError: if a file is no longer what was planned.
        """
        target = self._folder / shard.path
        line = self._line(shard)
        if self._is_finished(shard, target, line):
            self.resumed += 1
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        line.parent.mkdir(exist_ok=True)
        line.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        entry = self._link(shard, target) or self._write(shard, target)
        write_whole(line, encode_shard(replace(entry, path=shard.path, full=shard.full)))

    def lines(self, shards: list[PlannedShard]) -> Iterator[bytes]:
        """The index lines of finished shards."""
        for shard in shards:
            yield self._line(shard).read_bytes()

    def bytes_needed(self, shards: list[PlannedShard]) -> int:
        """Bytes that are still to be written for these shards, roughly."""
        return sum(
            sum(self._plan.sizes[row] for row in shard.rows)
            for shard in shards
            if shard.recipe not in self._parent.lines and not (self._folder / shard.path).exists()
        )

    def remove_strays(self, shards: list[PlannedShard]) -> None:
        """Remove what a stopped export of another state left behind."""
        wanted = {self._folder / shard.path for shard in shards}
        for path in self._folder.glob("*/*"):
            if path not in wanted and path.parent != self._lines:
                path.unlink()
        for folder in list(self._folder.iterdir()):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def remove_lines(self) -> None:
        """Remove what only a resumed export needs."""
        shutil.rmtree(self._lines)
        sync_folder(self._folder)

    def _line(self, shard: PlannedShard) -> Path:
        return self._lines / shard.path.replace("/", "-").replace(".tar", ".json")

    def _is_finished(self, shard: PlannedShard, target: Path, line: Path) -> bool:
        try:
            entry = decode_shard(line.read_bytes())
            return (
                (entry.path, entry.full) == (shard.path, shard.full)
                and entry_recipe(entry) == shard.recipe
                and file_sha256(target) == entry.sha256
            )
        except (OSError, ValueError):
            return False

    def _link(self, shard: PlannedShard, target: Path) -> ShardEntry | None:
        """The parent's shard of the same bytes under its new name; None if there is no sound one."""
        index = self._parent.index
        if index is None or shard.recipe not in self._parent.lines:
            return None
        entry = index.line_at(self._parent.lines[shard.recipe])
        source = index.folder / entry.path
        if not source.is_file() or file_sha256(source) != entry.sha256:
            return None
        try:
            os.link(source, target)
        except OSError:
            _copy(source, target)
        sync_folder(target.parent)
        self.linked += 1
        return entry

    def _write(self, shard: PlannedShard, target: Path) -> ShardEntry:
        with ShardFile(target) as file:
            for row in shard.rows:
                planned = self._plan.planned(row)
                fields = planned.fields()
                try:
                    members = planned.members()
                except (FileNotFoundError, ValueError) as error:
                    raise _changed(planned.key) from error
                conflicts = tuple(Conflict(name) for name in fields["conflicts"])
                file.add(planned.key, fields["identity"], conflicts, members)
                places = file.samples[-1].members
                if content_digest(places[m].sha256 for m in MEMBERS) != self._plan.digests[row]:
                    raise _changed(planned.key)
        self.written += 1
        return ShardEntry(
            shard.path, shard.split, shard.full, file.sha256, file.size, tuple(file.samples)
        )


def _changed(key: str) -> ShardError:
    return ShardError(
        f"{key}: one of its files changed while it was exported. "
        "Run the export again; finished shards are kept."
    )


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        os.fchmod(new.fileno(), 0o444)
        new.flush()
        os.fsync(new.fileno())

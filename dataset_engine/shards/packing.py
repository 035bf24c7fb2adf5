"""Which samples share a shard, and what of the parent version can be used again.

A shard's bytes are decided by its samples alone (``index.recipe``), so a shard whose recipe occurs in
the parent version has the parent's bytes. Packing is arranged so that this happens often: a shard that
a limit closed keeps its samples for as long as none of them changes or leaves, and only the rest,
sorted by key, is packed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dataset_engine.shards.index import (
    Index,
    Limits,
    content_digest,
    entry_recipe,
    recipe,
    shard_path,
)
from dataset_engine.shards.plan import Plan
from dataset_engine.shards.tar import RECORD
from dataset_engine.taxonomy import Split


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A shard to be made: its path, the plan's rows in order, whether a limit closed it, its recipe."""

    path: str
    split: Split
    rows: tuple[int, ...]
    full: bool
    recipe: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """Keys that a version adds to, takes from, and changes in its parent, each sorted."""

    added: list[str]
    removed: list[str]
    changed: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(slots=True)
class Parent:
    """The parent version, compared with the plan.

    Attributes:
        index: the parent's index; None for the first version.
        difference: what the plan changes.
        lines: where the index line of each recipe starts, bytes.
        kept: the rows of each full shard that is still as planned, in the parent's order.
    """

    index: Index | None
    difference: Difference
    lines: dict[bytes, int] = field(default_factory=dict)
    kept: dict[Split, list[tuple[int, ...]]] = field(default_factory=dict)


def compare(index: Index | None, plan: Plan, limits: Limits) -> Parent:
    """Compare the parent version with the plan, a shard of the parent at a time."""
    removed: list[str] = []
    changed: list[str] = []
    known = bytearray(len(plan.keys))
    parent = Parent(index, Difference([], removed, changed))
    for at, entry in index.lines() if index else ():
        rows: list[int] = []
        for sample in entry.samples:
            row = plan.row.get(sample.key)
            if row is None:
                removed.append(sample.key)
                continue
            known[row] = 1
            if plan.digests[row] == content_digest(m.sha256 for m in sample.members.values()):
                rows.append(row)
            else:
                changed.append(sample.key)
        if len(rows) == len(entry.samples):
            parent.lines[entry_recipe(entry)] = at
            if entry.full and index and index.limits == limits:
                parent.kept.setdefault(entry.split, []).append(tuple(rows))
    parent.difference.added.extend(
        key for key, seen in zip(plan.keys, known, strict=True) if not seen
    )
    for keys in (parent.difference.added, removed, changed):
        keys.sort()
    return parent


def pack(plan: Plan, parent: Parent, limits: Limits) -> list[PlannedShard]:
    """All shards of the new version, in the order of its index."""
    shards: list[PlannedShard] = []
    for split in Split:
        kept = parent.kept.get(split, [])
        taken = {row for rows in kept for row in rows}
        rest = (row for row in plan.split_rows(split) if row not in taken)
        groups = [*((rows, True) for rows in kept), *_groups(rest, plan, limits)]
        for number, (rows, full) in enumerate(groups):
            parts = ((plan.keys[row], plan.digests[row]) for row in rows)
            shards.append(PlannedShard(shard_path(split, number), split, rows, full, recipe(parts)))
    return shards


def _groups(
    rows: Iterable[int], plan: Plan, limits: Limits
) -> Iterator[tuple[tuple[int, ...], bool]]:
    group: list[int] = []
    size = RECORD
    for row in rows:
        if group and (len(group) == limits.samples or size + plan.sizes[row] > limits.bytes):
            yield tuple(group), True
            group, size = [], RECORD
        group.append(row)
        size += plan.sizes[row]
    if group:
        yield tuple(group), len(group) == limits.samples

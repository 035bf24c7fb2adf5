"""Export: reviewed triplets become a new version of RefSel-HQ.

A version is a folder that is complete by itself: OUT/v002 holds all its shards, so any WebDataset
reader, an upload or a copy needs nothing else, and v001 may be deleted later. What has not changed
since the parent version is not written again but hard-linked to the parent's file (copied where the
disk has no links), after its SHA-256 was checked; a parent's shard that is damaged is written anew
instead. References from one version's index into another's folder would save no more and would tie the
versions together for ever.

Everything is prepared in OUT/.v002.partial (``assembly``). One rename makes the version; another makes
OUT/latest name it. A killed export is run again: it takes over the shards that are already there and
redoes the rest, to the same bytes, because no time, machine or order of arrival enters any file.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from dataset_engine.same_picture import NEAR_DUPLICATE_BITS
from dataset_engine.shards.assembly import Assembly
from dataset_engine.shards.card import write_card
from dataset_engine.shards.counts import Table
from dataset_engine.shards.errors import REFUSALS, ExportRefusedError, Finding, ShardError
from dataset_engine.shards.files import (
    export_lock,
    file_sha256,
    sync_file,
    sync_folder,
    write_whole,
)
from dataset_engine.shards.index import (
    FORMAT,
    INDEX,
    LATEST,
    MANIFEST,
    Index,
    Limits,
    versions,
    write_index,
)
from dataset_engine.shards.packing import PlannedShard, compare, pack
from dataset_engine.shards.plan import Plan, Progress, SetAside, make_plan
from dataset_engine.shards.triplet import Triplet

_DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class VersionReport:
    """What an export did.

    Attributes:
        version: the version that holds the triplets now, such as ``v002``.
        folder: its folder.
        created: False if nothing had changed since that version, so that none was made.
        triplets: how many it holds.
        written, linked, resumed: how many of its shards were written, linked to the parent's, and taken
            over from an export that was stopped.
        size: bytes of all shards.
        added, removed, changed: how many keys differ from the parent.
        counts: what it holds, by category, value and split.
        set_aside: triplets that were left out, with the reason.
        allowed: what was found and let through by name.
    """

    version: str
    folder: Path
    created: bool
    triplets: int
    written: int
    linked: int
    resumed: int
    size: int
    added: int
    removed: int
    changed: int
    counts: Mapping[str, Table]
    set_aside: tuple[SetAside, ...]
    allowed: tuple[Finding, ...]

    @property
    def shards(self) -> int:
        """How many shards the version has."""
        return self.written + self.linked + self.resumed


def write_version(
    triplets: Iterable[Triplet],
    out: Path,
    *,
    max_samples_per_shard: int = _DEFAULT_LIMITS.samples,
    max_bytes: int = _DEFAULT_LIMITS.bytes,
    allow: Iterable[str] = (),
    near_duplicate_bits: int = NEAR_DUPLICATE_BITS,
    agreement: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> VersionReport:
    """Write all triplets as the next version in ``out``, unless nothing changed.

    Args:
        triplets: the whole data set, in any order; read once.
        out: the data set's folder; created if need be.
        max_samples_per_shard: samples after which a shard is closed.
        max_bytes: size of a shard's tar, bytes, that is not exceeded unless one sample does.
        allow: refusals to let through, of ``errors.REFUSALS``.
        near_duplicate_bits: largest Hamming distance of two perceptual hashes, of 64 bits, at which
            images in different splits are compared by their pixels; those that agree are one picture.
        agreement: agreement between annotators, such as Cohen's kappa of each conflict, for the card.
        progress: called as (what, done, total or None).

    Raises:
        ExportRefusedError: if the triplets leak between splits or a mask leaves its face region, and
            ``allow`` does not name it. Nothing is written.
        ExportBusyError: if another export to ``out`` is running.
        ShardError: if there is nothing to export, the disk is full or fails, or a file changed
            meanwhile.
        ValueError: if an option is out of range.
    """
    allowed = frozenset(allow)
    if unknown := sorted(allowed - set(REFUSALS)):
        raise ValueError(f"cannot allow {', '.join(unknown)}: give any of {', '.join(REFUSALS)}")
    limits = Limits(max_samples_per_shard, max_bytes)
    report = progress or _silent
    out.mkdir(parents=True, exist_ok=True)
    with export_lock(out), tempfile.TemporaryFile(dir=out) as spool:
        try:
            plan = make_plan(triplets, spool, report)
            report("comparing splits", 0, None)
            findings = _refuse(plan, allowed, near_duplicate_bits, report)
            return _Export(
                out=out,
                plan=plan,
                limits=limits,
                findings=findings,
                agreement=agreement or {},
                progress=report,
            ).run()
        except OSError as error:
            raise _failed(out, error) from error


def _silent(_what: str, _done: int, _total: int | None) -> None:
    pass


def _refuse(
    plan: Plan, allowed: frozenset[str], near_duplicate_bits: int, progress: Progress
) -> tuple[Finding, ...]:
    """The findings that are allowed; any other stops the export."""
    if not plan.keys:
        reasons = "".join(f"\n  {bad.key}: {bad.reason}" for bad in plan.set_aside[:10])
        raise ShardError(
            f"there is no triplet to export ({len(plan.set_aside)} set aside){reasons}\n"
            "Review pairs first, or mend what was set aside."
        )
    findings = tuple(plan.findings(near_duplicate_bits, progress))
    if refused := [finding for finding in findings if finding.name not in allowed]:
        raise ExportRefusedError(refused)
    return findings


def _failed(out: Path, error: OSError) -> ShardError:
    where = error.filename or out
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "Free some space and run the export again"
    else:
        mend = "Mend the disk or its permissions and run the export again"
    return ShardError(f"{where}: {error.strerror}. {mend}; finished shards are kept.")


class _Export:
    """One export under its lock, from a checked plan to the version's folder."""

    def __init__(
        self,
        *,
        out: Path,
        plan: Plan,
        limits: Limits,
        findings: tuple[Finding, ...],
        agreement: Mapping[str, float],
        progress: Progress,
    ) -> None:
        names = versions(out)
        self.out = out
        self.plan = plan
        self.limits = limits
        self.findings = findings
        self.allowed = {finding.name: finding.count for finding in findings}
        self.agreement = agreement
        self.progress = progress
        self.version = f"v{int(names[-1][1:]) + 1 if names else 1:03d}"
        self.parent = compare(Index(out / names[-1]) if names else None, plan, limits)
        self.partial = out / f".{self.version}.partial"
        self.assembly = Assembly(self.partial, plan, self.parent)

    def run(self) -> VersionReport:
        """Make the version, unless nothing changed since its parent."""
        if self.parent.index and not self.parent.difference:
            # A kill between the two renames leaves a version that the pointer does not name yet.
            self._point_to(self.parent.index.version)
            shutil.rmtree(self.partial, ignore_errors=True)
            return self._report(self.parent.index.version, created=False)
        shards = pack(self.plan, self.parent, self.limits)
        self._check_space(shards)
        done = 0
        for shard in shards:
            self.assembly.finish(shard)
            done += len(shard.rows)
            self.progress("writing shards", done, len(self.plan.keys))
        index = self.partial / INDEX
        write_index(index, self.version, self.limits, self.assembly.lines(shards))
        self.assembly.remove_strays(shards)
        card = write_card(
            self.partial,
            self.version,
            self.plan,
            agreement=self.agreement,
            allowed=self.allowed,
        )
        self._write_manifest([index, *card], len(shards))
        self.assembly.remove_lines()
        self.partial.rename(self.out / self.version)
        sync_folder(self.out)
        self._point_to(self.version)
        return self._report(self.version, created=True)

    def _check_space(self, shards: list[PlannedShard]) -> None:
        """Refuse at once what cannot fit, rather than after an hour of writing."""
        need = self.assembly.bytes_needed(shards)
        free = shutil.disk_usage(self.out).free
        if need > free:
            raise ShardError(
                f"{self.out}: the export takes {need} bytes and the disk has {free} left. "
                "Free some space, or export to another disk."
            )

    def _write_manifest(self, files: list[Path], shards: int) -> None:
        """Write the manifest, which names the other files' SHA-256, when they are on the disk."""
        for path in files:
            sync_file(path)
            sync_folder(path.parent)
        parents = []
        if self.parent.index:
            manifest = file_sha256(self.parent.index.folder / MANIFEST)
            parents = [{"version": self.parent.index.version, "manifest_sha256": manifest}]
        contents = {
            "format": FORMAT,
            "version": self.version,
            "engine": package_version("refstar-engine"),
            "parents": parents,
            "difference": asdict(self.parent.difference),
            "counts": self.plan.counts.tables(),
            "shards": shards,
            "allowed": self.allowed,
            "set_aside": len(self.plan.set_aside),
            "files": {str(path.relative_to(self.partial)): file_sha256(path) for path in files},
        }
        text = json.dumps(contents, indent=1, ensure_ascii=False) + "\n"
        write_whole(self.partial / MANIFEST, text.encode())

    def _point_to(self, version: str) -> None:
        pointer = self.out / LATEST
        text = f"{version}\n"
        if not pointer.exists() or pointer.read_text() != text:
            write_whole(pointer, text.encode())

    def _report(self, version: str, *, created: bool) -> VersionReport:
        folder = self.out / version
        difference = self.parent.difference
        return VersionReport(
            version=version,
            folder=folder,
            created=created,
            triplets=len(self.plan.keys),
            written=self.assembly.written,
            linked=self.assembly.linked,
            resumed=self.assembly.resumed,
            size=sum(path.stat().st_size for path in folder.glob("*/*.tar")),
            added=len(difference.added),
            removed=len(difference.removed),
            changed=len(difference.changed),
            counts=self.plan.counts.tables(),
            set_aside=tuple(self.plan.set_aside),
            allowed=self.findings,
        )

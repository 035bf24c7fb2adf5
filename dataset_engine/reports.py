"""Tables that commands print: what an ingest did, how far the work is, what an export holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dataset_engine.forgetting import Forgotten
from dataset_engine.import_shards import ImportReport
from dataset_engine.ingest_report import IngestReport
from dataset_engine.progress import Advance
from dataset_engine.shards import VerifyReport, VersionReport
from dataset_engine.store.queries import StatusReport
from dataset_engine.taxonomy import Status

EXAMPLES = 10


def ingest_table(report: IngestReport) -> RenderableType:
    """Counts of an ingest, and what it set aside for which reason."""
    table = Table("images", "count", title="ingest")
    table.add_row("added", str(report.added))
    table.add_row("in the store already", str(report.known))
    for reason, count in sorted(report.reasons.items()):
        table.add_row(f"set aside: {reason}", str(count))
    lines: list[RenderableType] = [table, f"{report.pairs} new pairs"]
    if report.inputs:
        lines.append(f"{report.inputs} restoration inputs, which have no ground truth")
    lines += [escape(note) for note in report.notes]
    if report.relicensed:
        lines.append(
            f"{report.relicensed} identities of earlier runs have another licence or consent now"
        )
    lines += [
        escape(f"  {left.file}: {left.reason}, {left.detail}") for left in report.left[:EXAMPLES]
    ]
    if report.report is not None:
        lines.append(escape(f"every file that is set aside: {report.report}"))
    return Group(*lines)


def removal_lines(
    done: Forgotten,
    tasks: Sequence[tuple[str, int, int, str]],
    problem: str,
    published: Sequence[Path],
    home: Path,
) -> Iterator[str]:
    """What a removal did, and what it could not reach.

    Args:
        done: the removal.
        tasks: what Label Studio still shows.
        problem: why it does.
        published: versions that hold the person.
        home: the home.
    """
    rows = done.removed
    yield (
        f"removed: {rows.get('images', 0) + rows.get('restoration_inputs', 0)} images, "
        f"{rows.get('pairs', 0)} pairs, {rows.get('proposals', 0)} proposals, "
        f"{rows.get('events', 0)} decisions, {rows.get('files', 0)} files"
    )
    if done.shared:
        yield f"{done.shared} files are another person's too, or an empty mask, and stay"
    if not done.scrubbed:
        yield "somebody is reading the database, so its log still holds the rows: run this again later"
    yield f"the next export is without this person; removal {done.removal_id} is on record"
    yield "This command cannot reach:"
    for server, project, task, _ in tasks[:EXAMPLES]:
        yield f"  task {task} of project {project} on {server}: {problem}; then run this again"
    if len(tasks) > EXAMPLES:
        yield f"  and {len(tasks) - EXAMPLES} more tasks"
    for version in published:
        yield f"  {version}: publish a new version, then delete this one and ask for its copies"
    yield "  the photographs that were ingested: delete them where they lie"
    yield "  backups, copies of exports, and pictures that a running service has in memory"
    yield f"  models that learnt from the masks, and pages with pictures ({home}/models, {home}/runs)"
    yield "  test sets and restored pictures, wherever they were written"
    yield "  logs of Label Studio, and the free pages of its database"


def status_tables(report: StatusReport) -> RenderableType:
    """What `engine status` shows."""
    pairs = Table("pairs", "count", title=f"{sum(report.pairs.values())} pairs")
    for status in Status:
        pairs.add_row(status, str(report.pairs[status]))
    scenarios = Table("scenario", "reviewed pairs")
    for scenario, count in report.scenarios.items():
        scenarios.add_row(scenario, str(count))
    people = ", ".join(f"{count} {split}" for split, count in report.identities.items())
    parts: list[RenderableType] = [
        f"{report.images} images of {sum(report.identities.values())} identities ({people})",
        pairs,
        f"{report.seeds_annotated} of {report.seeds} seed pairs are annotated",
        scenarios,
    ]
    if report.inputs:
        parts.append(f"{report.inputs} restoration inputs, which have no ground truth")
    if report.rounds:
        rounds = Table("round", "model", "stage", "IoU", "all-ones IoU", "conflict recall")
        for round_ in report.rounds:
            unet = round_["metrics"].get("unet", {})
            ones = round_["metrics"].get("all_ones", {})
            rounds.add_row(
                str(round_["number"]),
                escape(round_["model_version"]),
                round_["stage"],
                share(unet.get("iou")),
                share(ones.get("iou")),
                share(unet.get("conflict_recall")),
            )
        parts.append(rounds)
    left = ", ".join(f"{count} {reason}" for reason, count in sorted(report.set_aside.items()))
    if left:
        parts.append(f"files set aside: {left}")
    if report.unusable:
        parts.append(f"[yellow]{report.unusable} annotations could not be read[/]")
    return Group(*parts)


def export_table(report: VersionReport) -> RenderableType:
    """What a version of the export holds."""
    made = "new version" if report.created else "nothing changed since version"
    table = Table("", "count", title=f"{made} {report.version}")
    table.add_row("triplets", str(report.triplets))
    table.add_row("shards", f"{report.shards} ({report.linked} as they were)")
    table.add_row("size", f"{report.size / 2**20:.1f} MiB")
    table.add_row("difference", f"+{report.added} -{report.removed} ~{report.changed}")
    lines: list[RenderableType] = [table]
    lines += [
        escape(f"set aside {left.key}: {left.reason}") for left in report.set_aside[:EXAMPLES]
    ]
    lines += [
        f"[yellow]let through: {escape(str(finding))}[/]" for finding in report.allowed[:EXAMPLES]
    ]
    lines.append(escape(str(report.folder)))
    return Group(*lines)


def verify_line(report: VerifyReport) -> RenderableType:
    """What a verification found."""
    parts: list[RenderableType] = [
        f"[red]broken[/] {escape(str(problem))}" for problem in report.problems
    ]
    verdict = "sound" if report.sound else f"{len(report.problems)} problems"
    parts.append(
        f"{escape(str(report.version))}: {report.samples} samples in {report.shards} shards, "
        f"{report.size / 2**20:.1f} MiB read: {verdict}"
    )
    return Group(*parts)


def share(value: float | None) -> str:
    """A share with three decimals, or a dash where it is not defined."""
    return "-" if value is None else f"{value:.3f}"


def named(advance: Advance) -> Callable[[str, int, int | None], None]:
    """A progress bar for a work of several parts: the bar starts anew with each."""
    return lambda _, done, total: advance(done, total)


def import_table(report: ImportReport) -> RenderableType:
    """What an import of a published set did."""
    table = Table("triplets", "count", title="import")
    table.add_row("added", str(report.added))
    table.add_row("imported before", str(report.known))
    table.add_row("decided by a person here, kept", str(report.kept))
    table.add_row("set aside", str(report.left))
    lines: list[RenderableType] = [
        table,
        f"{report.images} new images of {report.identities} new identities",
    ]
    lines += [escape(f"set aside {left.key}: {left.reason}") for left in report.examples[:EXAMPLES]]
    return Group(*lines)

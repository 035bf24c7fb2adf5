"""What rounds and syncs print."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from annotator.rounds import RoundReport
from annotator.sync import SyncReport
from dataset_engine.cold_start.rule import RULE_VERSION
from dataset_engine.reports import EXAMPLES, share


def round_table(report: RoundReport) -> RenderableType:
    """The scores of a round's U-Net beside the rule and the all-ones mask, and what was proposed."""
    parts: list[RenderableType] = []
    if report.metrics:
        pairs = report.metrics["unet"]["pairs"]
        table = Table(
            "mask",
            "accuracy",
            "IoU",
            "conflict recall",
            "conflict precision",
            title=f"{report.model_version}: {pairs} pairs of held-out identities",
        )
        rows = (("unet", report.model_version), ("rule", RULE_VERSION), ("all_ones", "all ones"))
        for name, label in rows:
            if name not in report.metrics:
                continue
            row = report.metrics[name]
            table.add_row(
                label,
                *(
                    share(row[score])
                    for score in ("accuracy", "iou", "conflict_recall", "conflict_precision")
                ),
            )
        parts.append(table)
    if report.trained_on:
        parts.append(f"trained on {report.trained_on} reviewed pairs")
    parts.append(f"{report.proposed} masks proposed, {report.sent} sent to the annotators")
    parts += [f"[yellow]note[/] {escape(note)}" for note in report.notes]
    if report.set_aside:
        parts.append(f"[yellow]{len(report.set_aside)} pairs were set aside[/]")
        parts += [
            escape(f"  {key}: {why}") for key, why in list(report.set_aside.items())[:EXAMPLES]
        ]
    return Group(*parts)


def sync_line(report: SyncReport) -> RenderableType:
    """What a sync found, in a few lines."""
    found = f"{report.annotations} annotations on the server"
    changes = f"{report.recorded} new or changed here, {report.deleted} deleted there"
    parts: list[RenderableType] = [f"{found}: {changes}"]
    restored = report.restored
    if restored.tasks:
        parts.append(
            f"[yellow]{restored.tasks} tasks had been deleted there[/]: they are back, with "
            f"{restored.answers} answers"
        )
    if restored.settings:
        parts.append(
            f"[yellow]the project had been edited there[/] ({', '.join(restored.settings)}): it is as "
            "it was"
        )
    if report.foreign:
        parts.append(f"{report.foreign} belong to tasks that this engine did not send")
    parts += [
        f"[yellow]annotation {escape(number)} cannot be used[/]: {escape(why)}"
        for number, why in report.unusable.items()
    ]
    return Group(*parts)

"""What `engine compare-proposals` prints."""

from __future__ import annotations

from rich.table import Table

from dataset_engine.cold_start.comparing import Comparison
from dataset_engine.cold_start.rule import RULE_VERSION
from dataset_engine.reports import share
from models.metrics import Scores


def comparison_table(comparison: Comparison) -> Table:
    """A row each for the U-Net, the rule and the all-ones mask."""
    table = Table(
        *("mask", "accuracy", "IoU", "conflict recall", "conflict precision"),
        title=f"{comparison.rule.pairs} pairs of held-out identities",
    )
    rows: list[tuple[str, Scores | None]] = [
        (comparison.model_version or "U-Net", comparison.unet),
        (RULE_VERSION, comparison.rule),
        ("all ones", comparison.all_ones),
    ]
    for label, scores in rows:
        if scores is not None:
            shown = (
                *(scores.accuracy, scores.iou),
                *(scores.conflict_recall, scores.conflict_precision),
            )
            table.add_row(label, *map(share, shown))
    return table

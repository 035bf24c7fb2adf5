"""What was measured, as a table and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table

from restoration.evaluate_transfer.cases import Case
from restoration.evaluate_transfer.conditions import Condition, Images
from restoration.evaluate_transfer.recovery import agreement, leak, levels
from restoration.refstar_validation import face_psnr


@dataclass(frozen=True)
class Row:
    """Scores of one condition; NaN where nothing is known to be measured on.

    `psnr` is in dB in the face region, the mean over faces. `recovery` and `contrast` are the
    `Agreement` inside hidden marks. `glasses` is the share of the reference's glasses that came through.
    """

    psnr: float
    recovery: float
    contrast: float
    glasses: float


@dataclass(frozen=True)
class Summary:
    """All rows, and on how much they stand."""

    rows: Mapping[Condition | str, Row]
    faces: int
    faces_with_marks: int
    faces_with_glasses: int

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"rows": {str(name): asdict(row) for name, row in self.rows.items()}}


def summarise(cases: Sequence[Case], images: Mapping[Condition, Images]) -> Summary:
    """Measure every condition; images float32 [N, S, S, 3] in [0, 1], in the order of `cases`."""
    truth, degraded, reference = (
        levels(np.stack([getattr(one.face, name) for one in cases]))
        for name in ("truth", "degraded", "reference")
    )
    region = np.stack([one.face.region for one in cases])
    marks, glasses = [one.marks for one in cases], [one.glasses for one in cases]
    alone = images[Condition.PHASE_ONE]

    def row(shown: Images) -> Row:
        scores = face_psnr(
            _tensor(shown), _tensor(truth), torch.from_numpy(region)[:, None].float()
        )
        inside = agreement(list(shown), list(truth), marks)
        through = leak(list(shown), list(alone), list(reference), glasses)
        return Row(float(scores.mean()), inside.correlation, inside.contrast, through)

    rows: dict[Condition | str, Row] = {"input": row(degraded), "reference": row(reference)}
    rows |= {condition: row(images[condition]) for condition in Condition if condition in images}
    return Summary(
        rows, len(cases), sum(bool(m.any()) for m in marks), sum(bool(g.any()) for g in glasses)
    )


def transfer_table(summary: Summary) -> Table:
    """The rows, for a terminal of 80 columns."""
    table = Table(
        title=f"Restoration of {summary.faces} faces of people who were not trained on",
        caption=f"recovery and contrast: {summary.faces_with_marks} faces whose marks the input hides; "
        f"glasses: {summary.faces_with_glasses} faces",
    )
    table.add_column("with")
    for heading in ("PSNR, dB", "recovery", "contrast", "glasses"):
        table.add_column(heading, justify="right")
    for name, row in summary.rows.items():
        table.add_row(
            str(name),
            f"{row.psnr:.2f}",
            *("-" if np.isnan(one) else f"{one:.2f}" for one in (row.recovery, row.contrast)),
            "-" if np.isnan(row.glasses) else f"{row.glasses:.2f}",
        )
    return table


def _tensor(images: Images) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

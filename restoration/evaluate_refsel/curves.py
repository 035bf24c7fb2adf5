"""The two curves of a test: whether p can be believed, and how the mask decays as the input does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from restoration.evaluate_refsel.measures import BINS
from restoration.evaluate_refsel.summary import Summary

INK, OURS, ONES, RECALL = "#444444", "#12905c", "#9a9a9a", "#c33333"


def draw_curves(summary: Summary, path: Path) -> None:
    """Write reliability and decay side by side as a PNG."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _reliability(left, summary)
    _decay(right, summary)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)


def _reliability(axes: Axes, summary: Summary) -> None:
    counted = summary.reliability
    shares = counted.pixels / max(1, counted.pixels.sum())
    centres = (np.arange(BINS) + 0.5) / BINS
    axes.bar(centres, shares, width=0.9 / BINS, color=ONES, alpha=0.5, label="share of pixels")
    filled = counted.pixels > 0
    p = counted.p_sum[filled] / counted.pixels[filled]
    observed = counted.consistent[filled] / counted.pixels[filled]
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    axes.plot(p, observed, color=OURS, marker="o", markersize=4, label="share that is consistent")
    axes.axvline(summary.threshold, color=RECALL, linewidth=1, label="threshold")
    axes.set_xlim(0, 1)
    axes.set_xlabel("RefSel's p that a pixel is consistent")
    axes.set_title(f"Reliability (expected error {counted.expected_error:.3f})")
    axes.legend(loc="upper left", frameon=False)


def _decay(axes: Axes, summary: Summary) -> None:
    rows = summary.by_severity
    middles = [(one.least + one.most) / 2 for one in rows]
    curves = (
        ("accuracy", [one.row.scores.accuracy for one in rows], OURS, "-"),
        ("accuracy of all ones", [one.row.all_ones.accuracy for one in rows], ONES, "-"),
        ("conflict recall", [one.row.scores.conflict_recall for one in rows], RECALL, "-"),
        ("conflict precision", [one.row.scores.conflict_precision for one in rows], RECALL, ":"),
    )
    for label, values, colour, style in curves:
        axes.plot(middles, values, label=label, color=colour, linestyle=style, marker="o")
    axes.invert_xaxis()
    axes.set_xlabel("share of facial detail kept (worse to the right)")
    axes.set_title("By severity of the degradation, fifths of the inputs")
    axes.legend(loc="lower left", frameon=False)

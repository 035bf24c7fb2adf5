"""The degradation, fast and plain side by side on one thread, in images/s and their ratio.

python benchmarks/degradation.py                        exits with 1 below a goal
python benchmarks/degradation.py severity docs/images   the figures of docs/degradation.md
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from degradation_plain import plain_apply
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dataset_engine import sample
from dataset_engine.degradation import apply, degrade, detail_kept_by_band, preset, presets
from dataset_engine.degradation.draw import draw
from dataset_engine.degradation.parameters import Parameters
from dataset_engine.degradation.pipeline import jpeg
from dataset_engine.degradation.sheet import Rung, climb, strip

GOAL_RATE, GOAL_RATIO = 50, 10
BANDS = ("2.8-5.6 px: pores, hairs", "5.6-11 px: wrinkles, lids, lips", "11-22 px: eyes, mouth")
LEVELS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)
PICTURED = (0, 4, 5)  # of the six faces measured
Face = tuple[np.ndarray, np.ndarray]


def faces(identities: int) -> list[Face]:
    with tempfile.TemporaryDirectory() as folder:
        sample.write_sample(Path(folder), identities, 1, seed=7)
        return [
            (np.array(Image.open(path)), np.array(Image.open(path.with_suffix(".region.png"))) > 0)
            for path in sorted(Path(folder).glob("*/??.png"))
        ]


def best_times(
    runs: dict[str, Sequence[Callable[[], object]]], repeats: int
) -> dict[str, np.ndarray]:
    """CPU seconds of every call of every run, the best of a few rounds.

    The runs take turns call by call, so that other work on the machine slows all of them alike.
    """
    best = {name: np.full(len(calls), np.inf) for name, calls in runs.items()}
    count = len(next(iter(best.values())))
    for _ in range(repeats):
        for index in track(range(count), description=" ".join(runs)[:40]):
            for name, calls in runs.items():
                start = time.thread_time()
                calls[index]()
                best[name][index] = min(best[name][index], time.thread_time() - start)
    return best


def codecs_alone(image: np.ndarray, parameters: Parameters) -> None:
    """What no implementation can save: the two JPEGs and the resizes."""
    sizes = [(stage.width, stage.height) for stage in parameters.stages]
    work = cv2.resize(image, sizes[0])
    work = cv2.resize(jpeg(work, parameters.stages[0].jpeg), sizes[-1])
    if parameters.final.before_jpeg:
        jpeg(cv2.resize(work, image.shape[1::-1]), parameters.stages[-1].jpeg)
    else:
        cv2.resize(jpeg(work, parameters.stages[-1].jpeg), image.shape[1::-1])


def speed(draws: int, repeats: int) -> bool:
    images = [image for image, _ in faces(3)]
    jobs = [
        (images[seed % 3], draw(seed, 512, 512, preset("paper")), seed) for seed in range(draws)
    ]
    calls: dict[str, Sequence[Callable[[], object]]] = {
        f"{name}, fast": [lambda i=i, s=s, n=name: degrade(i, s, preset(n)) for i, _, s in jobs]
        for name in presets()
    }
    calls["JPEGs and resizes alone"] = [lambda i=i, p=p: codecs_alone(i, p) for i, p, _ in jobs]
    calls["paper, plain"] = [lambda i=i, p=p: plain_apply(i, p) for i, p, _ in jobs]
    rows = best_times(calls, repeats)
    plain, fast = rows["paper, plain"], rows["paper, fast"]
    table = Table(title=f"512 x 512, one thread, {draws} draws, {platform.processor() or 'CPU'}")
    for column in ("what", "images/s", "ms", "times plain"):
        table.add_column(column, justify="right")
    for name, times in rows.items():
        ratio = f"{plain.mean() / times.mean():.1f}" if name == "paper, fast" else ""
        table.add_row(name, f"{1 / times.mean():.1f}", f"{times.mean() * 1e3:.1f}", ratio)
    Console().print(table)
    same = [np.abs(_silent(plain_apply, i, p) - _silent(apply, i, p)).mean() for i, p, _ in jobs]
    print(f"difference from plain with noise off: mean {np.mean(same):.2f} grey levels")
    ratio = plain.mean() / fast.mean()
    print(
        f"ratio {ratio:.1f} (goal {GOAL_RATIO}), {1 / fast.mean():.1f} images/s (goal {GOAL_RATE})"
    )
    return bool(ratio >= GOAL_RATIO and 1 / fast.mean() >= GOAL_RATE)


def _silent(
    run: Callable[..., np.ndarray], image: np.ndarray, parameters: Parameters
) -> np.ndarray:
    values = parameters.to_dict()
    for stage in values["stages"]:
        stage["noise"] = None
    return run(image, Parameters.from_dict(values)).astype(np.float64)


def severity(out: Path, draws: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    people = faces(6)
    threshold = preset("paper").severe_threshold
    ladder = [
        strip(f"paper, face {n}", *_ladder(people[n], n, 64), threshold, 160) for n in PICTURED
    ]
    _save(np.concatenate(ladder), out / "severity-ladder.jpg")
    kept: dict[str, np.ndarray] = {}
    for name in track(presets(), description="presets"):
        settings = preset(name)
        kept[name] = np.array(
            [
                detail_kept_by_band(image, degrade(image, seed, settings).image, region)
                for image, region in people
                for seed in range(draws)
            ]
        )
    rungs = [
        strip(f"face {n}: nearest draws", *_levels(people[n], n, draws, kept), threshold, 160)
        for n in PICTURED
    ]
    _save(np.concatenate(rungs), out / "severity-threshold.jpg")
    _curve(kept, threshold, out / "severity-curve.png")
    table = Table(title=f"share of severe samples (kept < {threshold}), {6 * draws} draws a preset")
    for column in ("preset", "severe", "median kept", "5 %", "95 %"):
        table.add_column(column, justify="right")
    for name, bands in kept.items():
        share = bands.mean(axis=1)
        low, middle, high = np.quantile(share, [0.05, 0.5, 0.95])
        severe = (share < threshold).mean()
        table.add_row(name, f"{severe:.1%}", f"{middle:.2f}", f"{low:.2f}", f"{high:.2f}")
    Console().print(table)


def _ladder(face: Face, number: int, draws: int) -> tuple[np.ndarray, list[Rung]]:
    image, region = face
    rungs = climb(image, region, preset("paper"), seed=number * draws, columns=7, draws=draws)
    return image, rungs


def _levels(
    face: Face, number: int, draws: int, kept: dict[str, np.ndarray]
) -> tuple[np.ndarray, list[Rung]]:
    """For each level of detail kept the draw of any preset that comes nearest to it."""
    image, _ = face
    own = {n: k.mean(axis=1)[number * draws : (number + 1) * draws] for n, k in kept.items()}
    rungs = []
    for step, level in enumerate(LEVELS):
        # Taking turns shows that unlike degradations of one level show about as much.
        turn = (step + number) % 3
        names = ("paper", "gfpgan", "diffbir", "paper", "gfpgan")[turn : turn + 3]
        name = min(names, key=lambda name, level=level: np.abs(own[name] - level).min().round(2))
        seed = int(np.abs(own[name] - level).argmin())
        rungs.append(Rung(degrade(image, seed, preset(name)).image, seed, float(own[name][seed])))
    return image, rungs


def _curve(kept: dict[str, np.ndarray], threshold: float, path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bands = np.concatenate(list(kept.values()))
    share = bands.mean(axis=1)
    edges = np.linspace(0, 0.8, 33)
    centres = (edges[1:] + edges[:-1]) / 2
    members = [(share >= a) & (share < b) for a, b in pairwise(edges)]
    for index, label in enumerate(BANDS):
        middle = [np.median(bands[m, index]) if m.sum() > 4 else np.nan for m in members]
        left.plot(centres, middle, label=label)
    left.set(xlabel="detail kept", ylabel="kept in the band (median)", xlim=(0, 0.8), ylim=(0, 1))
    for name, values in kept.items():
        ranked = np.sort(values.mean(axis=1))
        right.plot(ranked, np.arange(1, len(ranked) + 1) / len(ranked), label=name)
    right.set(
        xlabel="threshold on detail kept", ylabel="share of severe", xlim=(0, 0.8), ylim=(0, 1)
    )
    for axes in (left, right):
        axes.axvline(threshold, color="black", linestyle=":", label=f"severe below {threshold}")
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, quality=80, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("speed", "severity"), nargs="?", default="speed")
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.what == "severity":
        severity(arguments.out, arguments.draws)
    elif not speed(arguments.draws, arguments.repeats):
        sys.exit("below a goal")


if __name__ == "__main__":
    main()

"""Every stage from photographs to shards at several sizes: seconds, rate, peak memory.

    python benchmarks/scale.py [--pairs 1000 10000] [--shots 5] [--folder DIR] [--net small]

Each stage runs in a process of its own, so that its peak memory (resident, of the process or of its
largest worker) is that stage's alone; memory that grows with the data shows as a ratio of the sizes.
A finished stage's figures are kept in the folder and not measured again. The last column gives the hours
that 12,000 pairs take at the rate of the largest size. `--net small` proposes with a network that costs
nothing, to measure memory without waiting for the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from dataset_engine.store import Store

STAGES = ("render", "ingest", "propose", "review", "export", "verify")
UNITS = {"render": "shots", "ingest": "images"}
TARGET = 12_000
NETS = ("real", "small")
console = Console()


@dataclass(frozen=True)
class Figures:
    """What a stage took: things handled, seconds, and MB of resident memory at its peak."""

    count: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Size:
    """At least so many pairs: all ordered ones of `shots` photographs of each person."""

    pairs: int
    shots: int

    @property
    def pairs_a_person(self) -> int:
        """Ordered pairs of one person's photographs."""
        return self.shots * (self.shots - 1)

    @property
    def people(self) -> int:
        """How many people it takes."""
        return -(-self.pairs // self.pairs_a_person)


def render(folder: Path, size: Size) -> int:
    from dataset_engine.sample import write_sample

    workers = os.cpu_count() or 1
    write_sample(folder / "faces", size.people, size.shots, seed=3, workers=workers)
    return size.people * size.shots


def run_stage(stage: str, folder: Path, size: Size, net: str) -> int:
    """Do one stage; returns how many things it handled, pairs unless `UNITS` says otherwise.

    Every stage imports what its command does, and no more: that memory counts, too.
    """
    if stage == "render":
        return render(folder, size)
    if stage == "verify":
        from dataset_engine.shards import verify

        report = verify(folder / "refsel-hq")
        assert report.sound, report
        return report.samples
    from dataset_engine.settings import Settings
    from dataset_engine.store import Store

    settings = Settings(home=folder / "home")
    with Store(settings) as store:
        if stage == "ingest":
            from dataset_engine.ingest import ingest

            ingest(store, settings, folder / "faces", pairs_per_identity=size.pairs_a_person)
            return size.people * size.shots
        if stage == "propose":
            return propose(store, net)
        if stage == "review":
            return review(store)
        from dataset_engine.shards import write_version
        from dataset_engine.store.queries import reviewed_triplets

        allowed = frozenset(("near-duplicate",))
        return write_version(reviewed_triplets(store), folder / "refsel-hq", allow=allowed).triplets


def propose(store: Store, net: str) -> int:
    """Masks by an untrained network, which takes as long as a trained one."""
    from dataset_engine.proposal_run import propose_undecided
    from dataset_engine.stored_pairs import model_folder
    from models.refsel import RefSel, RefSelConfig

    config = RefSelConfig()
    if net == "small":
        config = RefSelConfig(
            encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64
        )
    model = model_folder(store, "unet-r1")
    RefSel(config).save_pretrained(model)
    return propose_undecided(store, model, "unet-r1", 1).proposed


def review(store: Store) -> int:
    """Keep an oval of every reference's face region, as one review a pair."""
    import numpy as np
    from sqlalchemy import select

    from dataset_engine.store.reviews import Decision, EventKind, Source, record
    from dataset_engine.store.tables import AnnotationProject, Image, Pair

    yy, xx = np.mgrid[:512, :512]
    oval = ((xx - 256) / 90) ** 2 + ((yy - 280) / 110) ** 2 < 1
    with store.writing() as session:
        project = AnnotationProject(server="home", project=1, made_at=datetime.now(UTC))
        session.add(project)
        session.flush()
        project_id = project.id
    with store.reading() as session:
        rows = session.execute(
            select(Pair.id, Image.region_sha256)
            .join(Image, Image.id == Pair.ref_id)
            .order_by(Pair.id)
        ).all()
    for number, (pair_id, region) in enumerate(rows):
        decision = Decision(
            pair_id=pair_id,
            project_id=project_id,
            annotation=number,
            updated_at=datetime.now(UTC),
            kind=EventKind.SUBMITTED,
            source=Source.WEBHOOK,
            actor="benchmark",
            accepted=True,
            mask=oval & store.mask(region),
        )
        record(store, decision)
    return len(rows)


def measure(stage: str, folder: Path, size: Size, net: str) -> Figures:
    kept = folder / f"{stage}.json"
    if kept.exists():
        return Figures(**json.loads(kept.read_text()))
    console.print(f"{datetime.now(UTC):%H:%M:%S} {size.pairs} pairs: {stage}")
    options = ["--stage", stage, "--folder", str(folder), "--net", net]
    options += ["--pairs", str(size.pairs), "--shots", str(size.shots)]
    answer = subprocess.run(
        [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True
    )
    figures = Figures(**json.loads(answer.stdout.splitlines()[-1]))
    kept.write_text(answer.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--shots", type=int, default=5, help="photographs of each person")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--net", choices=NETS, default="real")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        size = Size(options.pairs[0], options.shots)
        began = time.perf_counter()
        count = run_stage(options.stage, options.folder, size, options.net)
        seconds = time.perf_counter() - began
        peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, -1))
        print(json.dumps({"count": count, "seconds": seconds, "peak_mb": max(peaks) / 1024}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.folder or Path(scratch)
        sizes = sorted(options.pairs)
        found = {}
        for pairs in sizes:
            folder = root / f"{pairs}-{options.shots}-{options.net}"
            folder.mkdir(parents=True, exist_ok=True)
            for stage in STAGES:
                found[pairs, stage] = measure(
                    stage, folder, Size(pairs, options.shots), options.net
                )
    show(found, sizes, options.shots)


def show(found: dict[tuple[int, str], Figures], sizes: list[int], shots: int) -> None:
    table = Table(title=f"{os.cpu_count()} cores, {shots} shots a person", padding=(0, 1))
    table.add_column("stage")
    for pairs in sizes:
        table.add_column(f"{pairs}: s", justify="right")
        table.add_column("a s", justify="right")
        table.add_column("MB", justify="right")
    table.add_column("memory", justify="right")
    table.add_column(f"h for {TARGET}", justify="right")
    for stage in STAGES:
        cells = [stage]
        for pairs in sizes:
            one = found[pairs, stage]
            rate = f"{one.count / one.seconds:.1f} {UNITS.get(stage, 'pairs')}"
            cells += [f"{one.seconds:.0f}", rate, f"{one.peak_mb:.0f}"]
        first, last = found[sizes[0], stage], found[sizes[-1], stage]
        hours = last.seconds * TARGET / sizes[-1] / 3600
        table.add_row(*cells, f"x{last.peak_mb / first.peak_mb:.2f}", f"{hours:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()

"""`engine ablate`: train and test every row for every seed, from one Phase I, and compare."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_engine.shards import RefSelShards
from dataset_engine.shards.files import file_sha256, write_whole
from models.pipeline import RefStarPipeline
from models.restorer import Phase
from restoration.ablation.masked_faces import AsReviewed, restore_cases, with_row_masks
from restoration.ablation.measures import Measures, measure_row, read_measures
from restoration.ablation.pictures import write_pictures
from restoration.ablation.rows import Row, row_settings
from restoration.ablation.summary import RowResult, as_json, as_markdown
from restoration.evaluate_transfer.cases import Case, KnownOf, held_out_cases
from restoration.evaluate_transfer.conditions import Images
from restoration.json_report import write_json
from restoration.refstar_config import RefStarTraining
from restoration.refstar_data import FaceMaker, MakeFace
from restoration.refstar_faces import Faces, open_faces
from restoration.refstar_networks import open_networks
from restoration.refstar_phase_two import train_phase_two
from restoration.refstar_run import REPORT_NAME, train_restoration
from restoration.refstar_session import BEST_NAME, LAST_NAME, Place, Session

DONE_NAME = "measures.json"
PICTURES_NAME = "ablation.jpg"
SHOWN = 3
"""Faces with glasses to be left out, and as many with marks to be found, that are drawn."""
Progress = Callable[[str, int, int | None], None]
"""(what is being done, how much of it, of how much)."""


@dataclass(frozen=True)
class Budget:
    """What every row gets. `steps` None takes Phase II's of the settings."""

    seeds: Sequence[int] = (0, 1, 2)
    steps: int | None = None
    faces: int = 250
    """How many test pairs are measured."""
    rows: Sequence[Row] = tuple(Row)


@dataclass(frozen=True)
class Ablation:
    """What an ablation gave."""

    results: dict[Row, RowResult]
    folder: Path
    """Has ``ablation.md``, ``ablation.json``, ``ablation.jpg`` and every trained pipeline."""


def ablate(
    settings: RefStarTraining,
    location: Path,
    out: Path,
    budget: Budget,
    *,
    weights: Path,
    refsel: Path | None = None,
    first_phase: Path | None = None,
    known: KnownOf | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Ablation:
    """Train and test the rows; a second call goes on with what the first left to do.

    Args:
        settings: of the full recipe.
        location: RefSel-HQ shards with training and test pairs.
        out: folder of the ablation.
        budget: seeds, steps, test pairs, rows.
        weights: folder of the published weights.
        refsel: folder of a trained RefSel; not needed where masks are annotated.
        first_phase: a run whose Phase I all rows start from; None trains one in `out`.
        known: what the source knows of a pair; None measures no marks and no glasses.
        progress: told what is being done.

    Raises:
        CheckpointError: weights are missing or wrong, or a state is broken.
        ShardError: shards are broken or leak.
        ValueError: there is nothing to train or test on, or `out` is of other settings.
    """
    if budget.steps is not None:
        settings = _shortened(settings, budget.steps)
    start = first_phase / "phase-1" if first_phase is not None else out / "phase-1"
    if first_phase is None:
        train_restoration(
            settings,
            Phase.ONE,
            location,
            out,
            weights=weights,
            resume=True,
            progress=lambda done, total: progress("Phase I, for all rows", done, total),
        )
    if not (start / BEST_NAME).is_dir():
        raise ValueError(f"{start / BEST_NAME} is missing; train Phase 1 there first")
    faces = open_faces(location, settings.data, settings.seed)
    data = replace(settings.data, clean=0.0)
    make = FaceMaker(AsReviewed(faces.train), data, settings.seed)
    samples = RefSelShards(location, "test")
    if not len(samples):
        raise ValueError(f"{location} has no test pairs; export again with a test split")
    cases = []
    for case in held_out_cases(samples, budget.faces, settings.data, settings.seed, known):
        cases.append(case)
        progress("test pairs", len(cases), min(budget.faces, len(samples)))
    test = _Test(cases, _alone(start / BEST_NAME, settings, cases))
    finished: dict[Row, list[_Training]] = {row: [] for row in budget.rows}
    results: dict[Row, RowResult] = {}
    # Seed by seed: an ablation that is stopped early has compared all rows with fewer seeds.
    for seed in budget.seeds:
        for row in budget.rows:
            one = _Training(row, row_settings(row, settings, seed), out / row / f"seed-{seed}")
            one.run(make, faces, test, start=start, refsel=refsel, weights=weights, tell=progress)
            finished[row].append(one)
            results = {row: _result(row, done) for row, done in finished.items() if done}
            _write(out, results)
    _draw(out, settings, results, budget, test)
    return Ablation(results, out)


def _shortened(settings: RefStarTraining, steps: int) -> RefStarTraining:
    """Phase II in `steps` steps, of which the same share has its own truth as reference."""
    own = settings.data.own_references * steps // settings.phase_two.steps
    return replace(
        settings,
        phase_two=replace(settings.phase_two, steps=steps),
        data=replace(settings.data, own_references=own),
    )


@dataclass(frozen=True, eq=False)
class _Test:
    """What every row is measured on."""

    cases: Sequence[Case]
    alone: Images
    """Phase I's results."""

    @property
    def name(self) -> str:
        """Tells tests apart: which pairs, and what is known of them."""
        digest = hashlib.sha256()
        for case in self.cases:
            digest.update(f"{case.key} {case.marks.sum()} {case.glasses.sum()}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Training:
    """One row with one seed."""

    row: Row
    settings: RefStarTraining
    folder: Path

    def run(
        self,
        make: MakeFace,
        faces: Faces,
        test: _Test,
        *,
        start: Path,
        refsel: Path | None,
        weights: Path,
        tell: Progress,
    ) -> None:
        """Train and measure, unless that is done; what was measured on other pairs is measured anew."""
        origin = _origin(self.settings, faces, start, refsel)
        done = self._done(origin)
        if done.get("tested on") == test.name:
            return
        seconds = done.get("seconds a step")
        if seconds is None:
            networks = open_networks(
                self.settings, Phase.TWO, weights=weights, start=start, refsel=refsel
            )
            session = Session(
                self.settings,
                Phase.TWO,
                networks,
                faces,
                Place(self.folder, resume=True, origin={"ablation": origin}),
                maker=with_row_masks(make, self.row),
                progress=partial(tell, f"{self.row.heading}, {self.folder.name}"),
            )
            seconds = self._train(session)
        pipeline = RefStarPipeline.from_pretrained(self.folder / LAST_NAME)
        restored = restored_by(pipeline, self.row, self.settings, test.cases)
        values = asdict(measure_row(test.cases, restored, test.alone)) | {
            "origin": origin,
            "tested on": test.name,
            "seconds a step": seconds,
        }
        write_json(self.folder / DONE_NAME, values)

    def _train(self, session: Session) -> float:
        """Train to the end; seconds a step."""
        began, first = time.perf_counter(), session.start
        train_phase_two(session)
        seconds = time.perf_counter() - began
        session.close()
        return seconds / max(1, self.settings.phase_two.steps - first)

    def _done(self, origin: str) -> dict[str, Any]:
        """What was written when it was measured; empty where it was not."""
        path = self.folder / DONE_NAME
        if not path.is_file():
            return {}
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["origin"] != origin:
            raise ValueError(
                f"{path} is of other settings, data, Phase I or RefSel; give another --out, or "
                f"remove {self.folder}"
            )
        return values

    def read(self) -> tuple[Measures, float]:
        """The means over pairs, and seconds a step."""
        values = json.loads((self.folder / DONE_NAME).read_text(encoding="utf-8"))
        return read_measures(values), float(values["seconds a step"])


def restored_by(
    pipeline: RefStarPipeline, row: Row, settings: RefStarTraining, cases: Sequence[Case]
) -> Images:
    """A row's results, float32[N, S, S, 3] in [0, 1]."""
    size = settings.phase_two.batch_size
    return restore_cases(pipeline, cases, row, settings.data.mask, size)


def _alone(folder: Path, settings: RefStarTraining, cases: Sequence[Case]) -> Images:
    pipeline = RefStarPipeline.from_pretrained(folder)
    size = settings.phase_two.batch_size
    return restore_cases(pipeline, cases, None, settings.data.mask, size)


def _origin(settings: RefStarTraining, faces: Faces, start: Path, refsel: Path | None) -> str:
    """Names everything that a training depends on."""
    files = [start / REPORT_NAME, *([refsel / "model.safetensors"] if refsel else [])]
    parts = [repr(asdict(settings)), faces.version, str(len(faces.train))]
    parts += [file_sha256(path) for path in files if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _result(row: Row, trained: Sequence[_Training]) -> RowResult:
    read = [one.read() for one in trained]
    return RowResult(
        row,
        tuple(measures for measures, _ in read),
        trained[0].settings.phase_two.steps,
        sum(seconds for _, seconds in read) / len(read),
    )


def _write(out: Path, results: dict[Row, RowResult]) -> None:
    write_json(out / "ablation.json", as_json(results))
    write_whole(out / "ablation.md", as_markdown(results).encode())


def _draw(
    out: Path,
    settings: RefStarTraining,
    results: dict[Row, RowResult],
    budget: Budget,
    test: _Test,
) -> None:
    """The first seed's results on the cases with most to see: glasses, and hidden marks."""
    order = sorted(range(len(test.cases)), key=lambda n: -int(test.cases[n].glasses.sum()))
    order += sorted(range(len(test.cases)), key=lambda n: -int(test.cases[n].marks.sum()))
    half = len(order) // 2
    numbers = list(dict.fromkeys([*order[:SHOWN], *order[half : half + SHOWN]]))
    cases = [test.cases[number] for number in numbers]
    restored = {}
    for row in results:
        pipeline = RefStarPipeline.from_pretrained(
            out / row / f"seed-{budget.seeds[0]}" / LAST_NAME
        )
        chosen = row_settings(row, settings, budget.seeds[0])
        restored[row] = restored_by(pipeline, row, chosen, cases)
    write_pictures(out / PICTURES_NAME, cases, test.alone[np.array(numbers)], restored)

"""`engine train-restoration`: one phase of RefSTAR, from faces to a saved pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_engine.shards.files import file_sha256, write_whole
from models.restorer import Phase
from restoration.refstar_config import RefStarTraining
from restoration.refstar_faces import open_faces
from restoration.refstar_networks import open_networks
from restoration.refstar_phase_one import train_phase_one
from restoration.refstar_phase_three import train_phase_three
from restoration.refstar_phase_two import train_phase_two
from restoration.refstar_session import BEST_NAME, Place, Session
from restoration.refstar_validation import Scores
from restoration.weights import require_weights

REPORT_NAME = "report.json"
LOOPS = {
    Phase.ONE: train_phase_one,
    Phase.TWO: train_phase_two,
    Phase.THREE: train_phase_three,
}


@dataclass(frozen=True)
class PhaseReport:
    """What a phase gave; of several processes the main one alone has scores."""

    best: Path
    """The pipeline with the highest validation score."""
    scores: Scores | None
    """Of the averaged weights at the end."""
    losses: tuple[float, ...]
    resumed_from: int
    set_aside: dict[Path, str]
    """Files and folders that could not be used, with reasons."""


def train_restoration(
    settings: RefStarTraining,
    phase: Phase,
    location: Path,
    out: Path,
    *,
    weights: Path,
    refsel: Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> PhaseReport:
    """Train one phase.

    A phase starts from `out/phase-N/best` of the one before. A run that was stopped and goes on
    with `resume` gives the losses of one that was not.

    Args:
        settings: see `RefStarTraining`.
        phase: which one.
        location: RefSel-HQ shards, or a folder of identity folders.
        out: folder of the whole run; this phase gets `out/phase-N`.
        weights: folder of the published weights.
        refsel: folder of a trained RefSel, for Phases II and III.
        resume: go on from the newest state, if there is one.
        progress: told how many steps are done, and of how many.

    Raises:
        CheckpointError: weights are missing or wrong, or a state is broken.
        ShardError: shards are broken or leak.
        ValueError: there is nothing to train on, the phase before is missing, or there are states
            of another run, or states that nobody asked to go on with.
    """
    require_weights(settings, weights, phase)
    folder = out / f"phase-{int(phase)}"
    start = None if phase is Phase.ONE else out / f"phase-{int(phase) - 1}"
    if start is not None and not (start / BEST_NAME).is_dir():
        raise ValueError(f"{start / BEST_NAME} is missing; train Phase {int(phase) - 1} first")
    faces = open_faces(location, settings.data, settings.seed)
    networks = open_networks(settings, phase, weights=weights, start=start, refsel=refsel)
    place = Place(folder, resume, _origin(start, refsel if phase is not Phase.ONE else None))
    session = Session(settings, phase, networks, faces, place, progress=progress)
    LOOPS[phase](session)
    scores = session.close()
    report = PhaseReport(
        folder / BEST_NAME, scores, session.losses, session.start, dict(faces.left.reasons)
    )
    if scores is not None:
        _write_report(folder / REPORT_NAME, report, faces.version)
    return report


def _origin(start: Path | None, refsel: Path | None) -> dict[str, str]:
    files = {
        "phase before": None if start is None else start / REPORT_NAME,
        "RefSel": None if refsel is None else refsel / "model.safetensors",
    }
    return {
        name: file_sha256(path)
        for name, path in files.items()
        if path is not None and path.is_file()
    }


def _write_report(path: Path, report: PhaseReport, version: str) -> None:
    """Scores and a digest of all losses, which tells two trainings apart."""
    digest = hashlib.sha256(repr(report.losses).encode()).hexdigest()
    text = json.dumps(
        {
            "data": version,
            "steps": len(report.losses),
            "losses": digest,
            "face PSNR": None if report.scores is None else asdict(report.scores),
            "set aside": {str(file): reason for file, reason in report.set_aside.items()},
        },
        indent=2,
    )
    write_whole(path, text.encode())

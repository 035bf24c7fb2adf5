"""The parts of a job on a Ray cluster: Ray places the workers, feeds them and restarts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset_engine.cluster.job import Job
from dataset_engine.cluster.parts import propose_part
from dataset_engine.progress import Advance, silent
from models.exported import load_fastest


@dataclass(frozen=True)
class ClusterReport:
    """What a run did.

    Attributes:
        parts: parts made in this run.
        skipped: parts that an earlier run had finished.
        proposed: masks in the parts of this run.
        set_aside: pairs of this run's parts that could not be read; the parts say why.
    """

    parts: int
    skipped: int
    proposed: int
    set_aside: int


class PartProposer:
    """What a worker is: the model, loaded once, and the parts that are given to it."""

    def __init__(self, job: Job, on_gpu: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        self._job = job
        self._threads = threads
        self._model = load_fastest(Path(job.model), job.batch_size, on_gpu=on_gpu)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make the parts whose numbers are in `batch["id"]`; gives their counts back."""
        made = [
            propose_part(self._job, self._model, int(number), workers=self._threads)
            for number in batch["id"]
        ]
        return {
            "proposed": np.array([one.proposed for one in made]),
            "set_aside": np.array([one.set_aside for one in made]),
        }


def run_on_ray(
    job: Job,
    *,
    workers: int,
    cpus_a_worker: int = 1,
    gpus_a_worker: float = 0,
    progress: Advance = silent,
) -> ClusterReport:
    """Make the parts of a job that are missing, on the Ray cluster that is running or can be joined.

    Finished parts stay as they are, so a run that was stopped or lost its machines is simply started
    again. The order of parts, the number of workers and who made which part change no byte.

    Args:
        job: see `prepare_job`; its list, model and output must be within the workers' reach.
        workers: how many models work at once.
        cpus_a_worker: CPU cores each of them has.
        gpus_a_worker: GPUs each of them has; a fraction shares one, 0 works on the CPU.
        progress: is told pairs done.

    Raises:
        RuntimeError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "proposals on a cluster need Ray: `pip install 'refstar-engine[ray]'`"
        ) from error
    missing = job.missing()
    report = ClusterReport(0, job.parts - len(missing), 0, 0)
    if not missing:
        return report
    # one block a part, made here: a task of its own to cut blocks would wait for ever for a core
    # where the workers have them all
    numbers = ray.data.from_items(
        [{"id": number} for number in missing], override_num_blocks=len(missing)
    )
    counted = numbers.map_batches(
        PartProposer,
        fn_constructor_args=(job, gpus_a_worker > 0, cpus_a_worker),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(missing))),
        num_cpus=cpus_a_worker,
        num_gpus=gpus_a_worker,
    )
    for row in counted.iter_rows():
        report = replace(
            report,
            parts=report.parts + 1,
            proposed=report.proposed + int(row["proposed"]),
            set_aside=report.set_aside + int(row["set_aside"]),
        )
        progress(report.proposed + report.set_aside, None)
    return report

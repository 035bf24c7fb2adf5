"""What restoring files costs beside the bare passes of its networks.

    python benchmarks/restore.py                                   the tiny preset, 64 pictures
    python benchmarks/restore.py --network full --pictures 1       Stable Diffusion's size, 512 px

Weights are random: they cost what trained ones cost. Faces are not looked for. Both sides take turns;
prints seconds, CPU seconds, their ratio (of CPU seconds, so that other work on the machine does not
count), and the process's peak memory. Exits with 1 above a goal.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.autoencoder import LatentAutoencoder
from models.backbones import stable_diffusion_unet, stable_diffusion_vae
from models.pipeline import RefStarPipeline
from models.prompts import PlainPrompt
from models.refsel import FirstInput, RefSel, RefSelConfig
from models.restorer import Restorer, RestorerConfig
from restoration.refsel_config import read_training
from restoration.refstar_config import PRESETS, chosen_settings
from restoration.restore.faces import LocatedFace
from restoration.restore.jobs import find_jobs
from restoration.restore.networks import FaceRestorer
from restoration.restore.run import RestoreSettings, restore_pictures

Image = NDArray[np.uint8]
GOAL_RATIO = 1.1
GOAL_RATE = 20.0
"""Pictures a second, of the tiny preset."""


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and CPU seconds of all threads."""

    clock: float
    cpu: float


def picture(seed: int, side: int) -> Image:
    rough = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def open_pipeline(network: str) -> RefStarPipeline:
    if network == "tiny":
        settings = chosen_settings("tiny")
        tiny = settings.tiny
        selecting = read_training(PRESETS / "refsel-tiny.yaml").model
        restorer = Restorer(tiny.unet(), tiny.autoencoder(), settings.restorer)
        prompt = PlainPrompt(tiny.prompt())
    else:
        vae = LatentAutoencoder(stable_diffusion_vae())
        selecting = RefSelConfig()
        restorer = Restorer(stable_diffusion_unet(), vae, RestorerConfig())
        prompt = PlainPrompt(torch.zeros(77, 768))
    restorer.add_reference()
    refsel = RefSel(replace(selecting, first_input=FirstInput.DEGRADED))
    return RefStarPipeline(restorer.eval().requires_grad_(False), prompt, refsel.eval())


def timed(work: Callable[[], object]) -> Took:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - cpu)


def find(path: Path) -> LocatedFace:
    image = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)
    return LocatedFace(image, lambda face: face)


def measure(network: str, pictures: int, batch: int, repeats: int) -> bool:
    """Print what it costs; whether the goals are kept."""
    restorer = FaceRestorer(open_pipeline(network))
    side, settings = restorer.side, RestoreSettings(batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for role, first in (("lq", 0), ("ref", 10_000)):
            (scratch / role).mkdir()
            for number in range(pictures):
                path = scratch / role / f"{number:05d}.png"
                cv2.imwrite(str(path), picture(first + number, side))
        jobs, _ = find_jobs(scratch / "lq", [scratch / "ref"])
        lq, reference = (
            restorer.stacked([picture(first + n, side) for n in range(pictures)])
            for first in (0, 10_000)
        )

        def bare() -> None:
            for part in zip(lq.split(batch), reference.split(batch), strict=True):
                restorer.restore(*part, restorer.masks(*part))

        restore_pictures(jobs[:batch], scratch / "warm", restorer, find, settings)
        networks, whole = [], []
        for turn in range(repeats):
            networks.append(timed(bare))
            out = scratch / f"out-{turn}"
            whole.append(timed(lambda: restore_pictures(jobs, out, restorer, find, settings)))  # noqa: B023
    ratio = median(one.cpu for one in whole) / median(one.cpu for one in networks)
    rate = pictures / median(one.clock for one in whole)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for name, took in (("networks", networks), ("files to files", whole)):
        clock, cpu = (median(getattr(one, kind) for one in took) for kind in ("clock", "cpu"))
        print(f"{name}: {clock:.2f} s, {cpu:.2f} CPU s")
    print(
        f"{network}, {side} px, {pictures} pictures by {batch}, {torch.get_num_threads()} threads: "
        f"ratio {ratio:.3f} (goal {GOAL_RATIO}), {rate:.2f} pictures/s, peak {peak:.2f} GiB"
    )
    return ratio <= GOAL_RATIO and (network == "full" or rate >= GOAL_RATE)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--network", choices=("tiny", "full"), default="tiny")
    arguments.add_argument("--pictures", type=int, default=64)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    sys.exit(not measure(chosen.network, chosen.pictures, chosen.batch, chosen.repeats))


if __name__ == "__main__":
    main()

"""What restoring files costs beside the bare passes of its networks, and metrics beside their libraries.

    python benchmarks/restore.py --network tiny --pictures 64
    python benchmarks/restore.py --network full --pictures 1
    python benchmarks/restore.py --metrics --pictures 64

Weights are random: they cost what trained ones cost. Prints CPU seconds, their ratio, and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def picture(seed: int, side: int) -> Image:
    rough = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def open_pipeline(network: str):  # noqa: ANN201
    from models.autoencoder import LatentAutoencoder
    from models.backbones import TinyBackbone, stable_diffusion_unet, stable_diffusion_vae
    from models.pipeline import RefStarPipeline
    from models.prompts import PlainPrompt
    from models.refsel import FirstInput, RefSel, RefSelConfig
    from models.restorer import Restorer, RestorerConfig

    tiny = TinyBackbone(widths=(64, 96))
    refsel = RefSel(RefSelConfig(first_input=FirstInput.DEGRADED))
    if network == "tiny":
        small = RefSelConfig(
            encoder="resnet18", working_size=tiny.image_size, first_input=FirstInput.DEGRADED
        )
        refsel = RefSel(small)
        restorer = Restorer(tiny.unet(), tiny.autoencoder(), RestorerConfig(250, lora=None))
        prompt = PlainPrompt(tiny.prompt())
    else:
        restorer = Restorer(
            stable_diffusion_unet(), LatentAutoencoder(stable_diffusion_vae()), RestorerConfig()
        )
        prompt = PlainPrompt(torch.zeros(77, 768))
    restorer.add_reference()
    return RefStarPipeline(restorer.eval().requires_grad_(False), prompt, refsel.eval())


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all threads: on a machine that others use too, the clock tells of them."""
    start = time.process_time()
    work()
    return time.process_time() - start


def restoring(network: str, pictures: int, batch: int) -> None:
    from restoration.restore.faces import LocatedFace
    from restoration.restore.jobs import find_jobs
    from restoration.restore.networks import FaceRestorer
    from restoration.restore.run import RestoreSettings, restore_pictures

    restorer = FaceRestorer(open_pipeline(network))
    side = restorer.side

    def find(path: Path) -> LocatedFace:
        image = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)
        return LocatedFace(image, lambda face: face)

    with tempfile.TemporaryDirectory() as scratch:
        for role, first in (("lq", 0), ("ref", 10_000)):
            (Path(scratch) / role).mkdir()
            for number in range(pictures):
                path = Path(scratch) / role / f"{number:05d}.png"
                cv2.imwrite(str(path), picture(first + number, side))
        jobs, _ = find_jobs(Path(scratch) / "lq", [Path(scratch) / "ref"])

        lq, reference = (
            restorer.stacked([picture(first + n, side) for n in range(pictures)])
            for first in (0, 10_000)
        )

        def bare() -> None:
            for part in zip(lq.split(batch), reference.split(batch), strict=True):
                restorer.restore(*part, restorer.masks(*part))

        settings = RestoreSettings(batch=batch)
        restore_pictures(jobs[:batch], Path(scratch) / "warm", restorer, find, settings)
        networks = min(seconds(bare) for _ in range(2 if network == "full" else 3))
        whole = seconds(
            lambda: restore_pictures(jobs, Path(scratch) / "out", restorer, find, settings)
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{network}, {side} px, {pictures} pictures: networks {networks:.2f} s, files to files "
        f"{whole:.2f} s, ratio {whole / networks:.2f}, {pictures / whole:.2f} pictures/s, "
        f"peak {peak:.1f} GiB"
    )


def metrics(pictures: int, side: int = 512) -> None:
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    from restoration.metric_tools import MetricWeights, open_tools
    from restoration.metrics import Face, colour_error, measure

    tools = open_tools(MetricWeights.in_folder(Path("none")))
    pairs = [(picture(n, side), picture(n + 1, side)) for n in range(pictures)]
    faces = [Face(str(n), {"m": one}, other) for n, (one, other) in enumerate(pairs)]

    def libraries() -> None:
        for one, other in pairs:
            first, second = (
                torch.from_numpy(it).permute(2, 0, 1)[None].float() / 255 for it in (one, other)
            )
            peak_signal_noise_ratio(first, second, data_range=1.0)
            structural_similarity_index_measure(first, second, data_range=1.0)
            colour_error(one, other)

    libraries()
    plain = min(seconds(libraries) for _ in range(3))
    ours = min(seconds(lambda: measure(faces, tools)) for _ in range(3))
    print(
        f"metrics without weights, {pictures} pairs of {side} px: libraries {plain:.2f} s, "
        f"measure {ours:.2f} s, ratio {ours / plain:.2f}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--network", choices=("tiny", "full"), default="tiny")
    arguments.add_argument("--pictures", type=int, default=64)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--metrics", action="store_true")
    chosen = arguments.parse_args()
    if chosen.metrics:
        metrics(chosen.pictures)
    else:
        restoring(chosen.network, chosen.pictures, chosen.batch)


if __name__ == "__main__":
    main()

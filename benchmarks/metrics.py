"""What `engine evaluate` costs beside the metrics' libraries called directly on the same pairs.

    python benchmarks/metrics.py                     24 pairs of 512 px
    python benchmarks/metrics.py --pairs 1000        the size of Celeb-Ref-Test

One side reads each pair and calls every library on it, a batch at a time, and nothing else. The other
is `engine evaluate` from the same files to its report, without the pictures in it. LPIPS, Inception
and ArcFace have random weights, which cost what published ones cost. Both take turns; prints CPU
seconds, their ratio, and how many times a file was decoded. Exits with 1 above a goal.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from lpips import LPIPS
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision.models import inception_v3

from models.identity import ArcFace
from models.iresnet import IResNet
from restoration.evaluate_methods import result_folders
from restoration.evaluate_methods.run import EvaluationSettings, SetResults, evaluate_methods
from restoration.evaluate_methods.table_one import TestSet
from restoration.metric_tools import MetricWeights, Tool, Tools, open_tools
from restoration.metrics import BATCH

Image = NDArray[np.uint8]
GOAL = 1.2
SIDE = 512


class Inception(nn.Module):
    """Inception v3 of FID's size: uint8[B, 3, H, W] to float[B, 2048]."""

    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        self.network = inception_v3(weights=None, init_weights=False, aux_logits=False)
        self.network.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        small = nn.functional.interpolate(
            images.float(), size=(299, 299), mode="bilinear", antialias=True, align_corners=False
        )
        found: Tensor = self.network(small / 127.5 - 1)
        return found


class Lpips(nn.Module):
    """The official package on a random AlexNet."""

    def __init__(self) -> None:
        super().__init__()
        self.network = LPIPS(net="alex", pnet_rand=True, verbose=False)

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Two float[B, 3, H, W] in [0, 1] to float[B]."""
        found: Tensor = self.network(images, target, normalize=True)
        return found.flatten()


def random_tools(folder: Path) -> Tools:
    bare = open_tools(MetricWeights.in_folder(folder))

    def drawn(network: nn.Module) -> Tool[Any]:
        return Tool(network.eval().requires_grad_(False), file="random")

    return Tools(
        drawn(Lpips()), drawn(Inception()), bare.musiq, drawn(ArcFace(IResNet(18))), bare.device
    )


def write_pairs(folder: Path, pairs: int) -> None:
    """A test set with truths and references, and one method's results; every pair is another one."""
    for role in ("set/gt", "set/ref", "restored"):
        (folder / role).mkdir(parents=True)
    for number in range(pairs):
        random = np.random.default_rng(number)
        rough = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        truth = cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        region = np.zeros((SIDE, SIDE), np.uint8)
        region[100:420, 120:400] = 255
        files = {
            "set/gt/{}.png": truth,
            "set/gt/{}.region.png": region,
            "set/ref/{}.png": truth[:, ::-1],
            "restored/{}.png": cv2.GaussianBlur(truth, (0, 0), 2),
        }
        for name, image in files.items():
            cv2.imwrite(str(folder / name.format(f"{number:05d}")), image)


def libraries(folder: Path, tools: Tools, pairs: int) -> None:
    """Every library on every pair, and nothing kept but their numbers."""
    lpips, inception, arcface = (
        one.network for one in (tools.lpips, tools.inception, tools.arcface)
    )
    assert lpips is not None
    assert inception is not None
    assert arcface is not None
    distance = FrechetInceptionDistance(feature=inception)
    roles = ("restored", "set/gt", "set/ref")
    for start in range(0, pairs, BATCH):
        names = [f"{number:05d}" for number in range(start, min(start + BATCH, pairs))]
        images = [[_read(folder / role / f"{name}.png") for name in names] for role in roles]
        levels = [torch.from_numpy(np.stack(one)).permute(0, 3, 1, 2) for one in images[:2]]
        restored, truth, reference = (
            torch.from_numpy(np.stack(one)).permute(0, 3, 1, 2).contiguous().float() / 255
            for one in images
        )
        peak_signal_noise_ratio(
            restored, truth, data_range=1.0, reduction="none", dim=(1, 2, 3)
        ).tolist()
        structural_similarity_index_measure(
            restored, truth, data_range=1.0, reduction="none"
        ).tolist()
        lpips(restored, truth).tolist()
        people = [arcface(one) for one in (restored, truth, reference)]
        [(people[0] * other).sum(dim=1).tolist() for other in people[1:]]
        distance.update(levels[1], real=True)
        distance.update(levels[0], real=False)
    distance.compute()


def _read(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


def engine(folder: Path, tools: Tools, out: Path) -> Counter[str]:
    """The evaluation; how often each file was decoded."""
    seen: Counter[str] = Counter()
    read = result_folders.read_rgb

    def counted(path: Path, problems: result_folders.Problems) -> Image | None:
        seen[str(path)] += 1
        return read(path, problems)

    result_folders.read_rgb = counted
    try:
        evaluate_methods(
            {TestSet.SYNTHETIC: SetResults(folder / "set", {"method": folder / "restored"})},
            out,
            tools,
            EvaluationSettings(looks=0),
        )
    finally:
        result_folders.read_rgb = read
    return seen


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--pairs", type=int, default=24)
    arguments.add_argument("--repeats", type=int, default=1)
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    plain, ours = [], []
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = Path(scratch)
        tools = random_tools(folder)
        write_pairs(folder, chosen.pairs)
        libraries(folder, tools, min(BATCH, chosen.pairs))
        for _ in range(chosen.repeats):
            plain.append(cpu_seconds(lambda: libraries(folder, tools, chosen.pairs)))
            ours.append(cpu_seconds(lambda: seen.update(engine(folder, tools, folder / "out"))))
    ratio, decoded = median(ours) / median(plain), max(seen.values()) / chosen.repeats
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{chosen.pairs} pairs of {SIDE} px, {torch.get_num_threads()} threads: libraries "
        f"{median(plain):.1f} CPU s, engine {median(ours):.1f} CPU s, ratio {ratio:.3f} (goal "
        f"{GOAL}), each file decoded {decoded:.0f} time(s), peak {peak:.2f} GiB"
    )
    sys.exit(ratio > GOAL or decoded > 1)


if __name__ == "__main__":
    main()

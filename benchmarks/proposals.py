"""Proposals side by side with the bare network, and with one pair after the other. Prints ratios.

    python benchmarks/proposals.py [--pairs 96] [--rounds 5] [--threads 2] [--model FOLDER]

bare: the network alone on images or tensors that are ready, in full batches at its working size and
precision, with all threads; in PyTorch, and as it is used (exported, with the extra `openvino`; a stream
for each thread).
whole: the same pairs from the files of a store into its database, with decoding, cleaning, PNG, fsync
and transactions. round: the same as rounds do it, each pair mirrored too, beside the bare network asked
twice. plain: each pair by itself, everything in turn.

All run in one process, one after another in each round, so that a busy machine slows them alike; ratios
are of the same round. The share of CPU time says what is left where no core is idle, and is the steadier
figure on a machine that others use; take it with --threads 1, as several threads burn time waiting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from dataset_engine.pair_images import PairImages, read_pair
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.proposing import clean_mask
from dataset_engine.sample.files import write_sample
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.blobs import decode_mask_png, encode_jpeg, read_rgb
from dataset_engine.store.pairs import add_identities, add_pairs
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import undecided
from dataset_engine.store.tables import Image
from dataset_engine.stored_pairs import pair_files
from models.exported import ExportedRefSel, load_fastest
from models.inference import margins, predict, stack_images
from models.optimisation import autocast
from models.refsel import RefSel, RefSelConfig

SHOTS = 4
BATCH = 4


def fill(home: Path, sample: Path, pairs: int) -> None:
    """A store with that many pairs of rendered faces; without ingest, whose time is not the matter."""
    identities = -(-pairs // (SHOTS * (SHOTS - 1)))
    write_sample(sample, identities, SHOTS, 0)
    with Store(Settings(home=home)) as store, store.writing() as session:
        folders = sorted(path for path in sample.iterdir() if path.is_dir())
        names = [folder.name for folder in folders]
        made = add_identities(session, names, seed=0, source="sample", licence="CC0-1.0")
        for folder in folders:
            identity = made[folder.name]
            for path in sorted(folder.glob("??.png")):
                mask = decode_mask_png(path.with_suffix(".region.png").read_bytes())
                session.add(
                    Image(
                        identity_id=identity.id,
                        name=f"{folder.name}/{path.name}",
                        source_sha256=f"{folder.name}/{path.name}",
                        sha256=store.images.put(encode_jpeg(read_rgb(path))),
                        region_sha256=store.put_mask(mask),
                        phash="0" * 16,
                        sharpness=1.0,
                        five_points=[[0.0, 0.0]] * 5,
                    )
                )
            session.flush()
            add_pairs(session, identity.id, seed=0, limit=SHOTS * (SHOTS - 1))


def bare(model: RefSel, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.inference_mode(), autocast(torch.device("cpu")):
        for first, reference in batches:
            model.probability(first, reference)


def bare_used(model: RefSel | ExportedRefSel, images: list[PairImages]) -> None:
    def answer(start: int) -> None:
        batch = images[start : start + BATCH]
        both = [one.gt for one in batch], [one.reference for one in batch]
        if isinstance(model, ExportedRefSel):
            model.margins(*both)
        else:
            margins(model, *both)

    streams = model.streams if isinstance(model, ExportedRefSel) else 1
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(answer, range(0, len(images), BATCH)))


def whole(home: Path, model: Path, *, flips: bool = False) -> None:
    with Store(Settings(home=home)) as store:
        version = "mirrored" if flips else "whole"
        propose_undecided(store, model, version, 1, batch_size=BATCH, flips=flips)


def twice(model: RefSel | ExportedRefSel, images: list[PairImages]) -> None:
    bare_used(model, images)
    bare_used(model, images)


def plain(home: Path, model: RefSel, pairs: int) -> None:
    with Store(Settings(home=home)) as store:
        for pair, _ in zip(undecided(store, without_model="plain"), range(pairs), strict=False):
            files = pair_files(store, pair)
            gt, reference = cv2.imread(str(files.gt)), cv2.imread(str(files.reference))
            region = cv2.imread(str(files.region), cv2.IMREAD_GRAYSCALE) > 127
            (p,) = predict(model, [gt], [reference])
            mask = clean_mask(p > model.config.threshold, region)
            score = float(np.maximum(p, 1 - p)[region].mean())
            add_proposals(store, "plain", 1, [NewProposal(pair.id, mask, score)])


def ready(images: list[PairImages]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (
            stack_images([one.gt for one in images[start : start + BATCH]]),
            stack_images([one.reference for one in images[start : start + BATCH]]),
        )
        for start in range(0, len(images), BATCH)
    ]


def measure(folder: Path, pairs: int, rounds: int, given: Path | None) -> dict[str, list[float]]:
    fill(folder / "home", folder / "sample", pairs)
    given = model_folder(folder, given)
    model = RefSel.from_pretrained(given).to(memory_format=torch.channels_last)
    with Store(Settings(home=folder / "home")) as store:
        files = [pair_files(store, pair) for pair in undecided(store)]
    used = load_fastest(given, BATCH, on_gpu=torch.cuda.is_available())
    images = [read_pair(one, model.config.working_size or 512) for one in files]
    batches = ready(images)
    few = max(1, len(files) // 6)
    times: dict[str, list[float]] = defaultdict(list)
    print(
        f"{len(files)} pairs, batches of {BATCH}, {torch.get_num_threads()} threads, {rounds} rounds"
    )
    for number in range(-1, rounds):
        copy = folder / f"home-{number}"
        shutil.copytree(folder / "home", copy)
        for name, count, run in (
            ("bare PyTorch", len(files), lambda: bare(model, batches)),
            ("bare", len(files), lambda: bare_used(used, images)),
            ("whole", len(files), lambda copy=copy: whole(copy, given)),
            ("bare twice", len(files), lambda: twice(used, images)),
            ("round", len(files), lambda copy=copy: whole(copy, given, flips=True)),
            ("plain", few, lambda copy=copy: plain(copy, model, few)),
        ):
            start, began = time.perf_counter(), time.process_time()
            run()
            if number >= 0:  # the first round warms up
                times[name].append((time.perf_counter() - start) / count)
                times[f"{name}, CPU"].append((time.process_time() - began) / count)
        shutil.rmtree(copy)
    return times


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    pairs = zip(times[one], times[other], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def read_options(description: str, pairs: int, rounds: int) -> argparse.Namespace:
    """What the command line says; the threads are set to it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=pairs)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--model", type=Path, help="a trained U-Net; untrained otherwise")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    return options


def model_folder(folder: Path, given: Path | None) -> Path:
    """The model that was given, or an untrained one in `folder`."""
    if given is None:
        torch.manual_seed(0)
        given = folder / "model"
        RefSel(RefSelConfig()).save_pretrained(given)
    return given


def main() -> None:
    options = read_options(__doc__.splitlines()[0], pairs=96, rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), options.pairs, options.rounds, options.model)
    for name, seconds in times.items():
        print(
            f"  {name:17} {min(seconds) * 1e3:7.1f} ms a pair at best, "
            f"{statistics.median(seconds) * 1e3:7.1f} in the median"
        )
    result = {
        "share of the bare network": ratio(times, "bare", "whole"),
        "share of the bare network in a round": ratio(times, "bare twice", "round"),
        "share of the bare network, CPU": ratio(times, "bare, CPU", "whole, CPU"),
        "share of the bare network in PyTorch, CPU": ratio(
            times, "bare PyTorch, CPU", "whole, CPU"
        ),
        "times as fast as plain": ratio(times, "plain", "whole"),
        "times as fast as plain, CPU": ratio(times, "plain, CPU", "whole, CPU"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

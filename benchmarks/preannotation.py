"""Pre-annotations side by side with the bare network, and with a plain ML backend. Prints ratios.

    python benchmarks/preannotation.py [--pairs 288] [--rounds 3] [--threads 2] [--model FOLDER]

bare: the network alone on images that are ready, as it is used (see `proposals.py`).
ours: from the files of a store to predictions as Label Studio takes them: proposals into the database,
then each mask read back and encoded. It loads the network itself, a second that few pairs feel.
plain: the same U-Net as a plain ML backend serves it: one task a request over HTTP, files read, one
forward pass in PyTorch, and the mask encoded by label_studio_sdk's converter.

All run in one process, one after another in each round; ratios are of the same round.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from label_studio_sdk.converter.brush import mask2rle
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parent))
from proposals import BATCH, bare_used, fill, model_folder, ratio, read_options

from annotator.results import proposal_result
from dataset_engine.pair_images import PairFiles, read_pair
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.queries import undecided
from dataset_engine.store.tables import Proposal
from dataset_engine.stored_pairs import pair_files
from models.exported import load_fastest
from models.inference import predict
from models.refsel import RefSel

GOAL = 0.9


def ours(home: Path, model: Path) -> int:
    """Bytes of all predictions, made from the files of a store."""
    with Store(Settings(home=home)) as store:
        propose_undecided(store, model, "ours", 1, batch_size=BATCH)
        with store.reading() as session:
            made = session.execute(select(Proposal.mask_sha256, Proposal.score)).all()
        return sum(
            len(json.dumps(proposal_result(store.mask(mask), score))) for mask, score in made
        )


def plain_backend(model: RefSel, files: dict[str, PairFiles]) -> FastAPI:
    """An ML backend as they are commonly written."""
    app = FastAPI()

    @app.post("/predict")
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        results = []
        for task in body["tasks"]:
            pair = files[task["data"]["pair"]]
            gt, reference = cv2.imread(str(pair.gt)), cv2.imread(str(pair.reference))
            region = cv2.imread(str(pair.region), cv2.IMREAD_GRAYSCALE) > 127
            (kept,) = predict(model, [gt], [reference])
            mask = (kept > model.config.threshold) & region
            value = {"format": "rle", "rle": mask2rle(mask.astype(np.uint8) * 255)}
            score = float(np.maximum(kept, 1 - kept)[region].mean())
            region_result = {"type": "brushlabels", "value": value}
            results.append({"result": [region_result], "score": score})
        return {"results": results}

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The URL of an application that a thread of this process serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def plain(client: httpx.Client, keys: list[str]) -> None:
    """Ask the plain backend for one task after the other."""
    for key in keys:
        body = {"tasks": [{"id": 1, "data": {"pair": key}}]}
        (result,) = client.post("/predict", json=body).raise_for_status().json()["results"]
        assert result["result"]


def measure(folder: Path, pairs: int, rounds: int, given: Path | None) -> dict[str, list[float]]:
    """Seconds a pair of each contestant, a value for each round."""
    fill(folder / "home", folder / "sample", pairs)
    given = model_folder(folder, given)
    model = RefSel.from_pretrained(given).to(memory_format=torch.channels_last)
    used = load_fastest(given, BATCH, on_gpu=torch.cuda.is_available())
    with Store(Settings(home=folder / "home")) as store:
        files = {pair.key: pair_files(store, pair) for pair in undecided(store)}
    images = [read_pair(one, model.config.working_size or 512) for one in files.values()]
    few = list(files)[: max(1, len(files) // 6)]
    times: dict[str, list[float]] = defaultdict(list)
    threads = torch.get_num_threads()
    print(f"{len(files)} pairs, batches of {BATCH}, {threads} threads, {rounds} rounds")
    with (
        served(plain_backend(model, files)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        for number in range(-1, rounds):
            copy = folder / f"home-{number}"
            shutil.copytree(folder / "home", copy)
            for name, count, run in (
                ("bare", len(files), lambda: bare_used(used, images)),
                ("ours", len(files), lambda copy=copy: ours(copy, given)),
                ("plain", len(few), lambda: plain(client, few)),
            ):
                start, began = time.perf_counter(), time.process_time()
                run()
                if number >= 0:  # the first round warms up
                    times[name].append((time.perf_counter() - start) / count)
                    times[f"{name}, CPU"].append((time.process_time() - began) / count)
            shutil.rmtree(copy)
    return times


def main() -> None:
    options = read_options(__doc__.splitlines()[0], pairs=288, rounds=3)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), options.pairs, options.rounds, options.model)
    for name, seconds in times.items():
        print(f"  {name:12} {statistics.median(seconds) * 1e3:7.1f} ms a pair in the median")
    print(f"  load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    result = {
        f"share of the bare network (goal {GOAL})": ratio(times, "bare", "ours"),
        "share of the bare network, CPU": ratio(times, "bare, CPU", "ours, CPU"),
        "times as fast as the plain backend": ratio(times, "plain", "ours"),
        "times as fast as the plain backend, CPU": ratio(times, "plain, CPU", "ours, CPU"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Annotators who click at once, against the real service over HTTP: how long an answer takes.

Renders faces, ingests them, proposes by rule, starts
`engine serve` and lets each annotator click parts and, by the share given, spots elsewhere. Every
annotator is at a task of their own and moves on to another after some clicks, so that first looks at a
face are measured, too.

    python benchmarks/clicks.py --annotators 20 --clicks 50
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from annotator.label_studio import image_url
from annotator.results import proposal_result
from annotator.workplace import start_service
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.proposing import propose_first
from dataset_engine.ingest import ingest
from dataset_engine.sample import write_sample
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.queries import latest_proposal
from dataset_engine.store.tables import Pair

CLICKS_A_TASK = 5
PAUSE = 2.0
"""Seconds between an annotator's clicks, on average: a fast worker, who also looks."""
PLACES = ((50, 72), (38, 46), (62, 46), (50, 58), (36, 64), (64, 64), (50, 30), (50, 82), (42, 70))
"""Percent of an aligned face: mouth, eyes, nose, cheeks, forehead, chin, a fold."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--clicks", type=int, default=50, help="Clicks of each annotator.")
    parser.add_argument("--identities", type=int, default=20)
    parser.add_argument(
        "--elsewhere", type=float, default=0.1, help="Share of clicks off the parts."
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = Settings(home=Path(folder) / "home", service_port=port)
        write_sample(Path(folder) / "faces", given.identities, 2, 0)
        with Store(settings) as store:
            ingest(store, settings, Path(folder) / "faces", workers=1)
            tasks = _tasks(store)
        service = start_service(settings.home, settings)
        try:
            before = os.getloadavg()[0]
            times, failures = _click(settings.resolved_service_url, tasks, given)
        finally:
            service.close()
    cuts = statistics.quantiles(times, n=100)
    print(
        f"{given.annotators} annotators, {len(times)} clicks on {len(tasks)} pairs, "
        f"{given.elsewhere:.0%} off the parts; load {before:.1f} on {os.cpu_count()} cores before"
    )
    print(
        f"median {statistics.median(times):.0f} ms, 95th percentile {cuts[94]:.0f} ms, "
        f"99th {cuts[98]:.0f} ms, slowest {max(times):.0f} ms; {failures} failed (target: 200 ms)"
    )


def _tasks(store: Store) -> list[dict[str, Any]]:
    """The pairs as Label Studio sends them with a click: with their proposal and an empty draft list."""
    query = select(Pair).options(selectinload(Pair.gt), selectinload(Pair.ref))
    with store.reading() as session:
        pairs = list(session.scalars(query))
    propose_first(store, pairs, Landmarks(store))
    tasks = []
    for pair in pairs:
        with store.reading() as session:
            proposal = latest_proposal(session, pair.id)
        assert proposal is not None
        shown = {
            name: image_url(store.images.path(one.sha256).relative_to(store.served).as_posix())
            for name, one in (("gt", pair.gt), ("ref", pair.ref))
        }
        result = proposal_result(store.mask(proposal.mask_sha256), proposal.score)
        prediction = {"model_version": proposal.model_version, "result": result}
        tasks.append(
            {
                "id": pair.id,
                "data": {"pair": pair.key} | shown,
                "predictions": [prediction],
                "annotations": [],
                "drafts": [],
            }
        )
    return tasks


def _click(
    url: str, tasks: list[dict[str, Any]], given: argparse.Namespace
) -> tuple[list[float], int]:
    times: list[list[float]] = [[] for _ in range(given.annotators)]
    failures = [0] * given.annotators
    together = threading.Barrier(given.annotators)

    def annotate(number: int) -> None:
        dice = random.Random(number)  # noqa: S311 - nothing secret
        with httpx.Client(timeout=60, trust_env=False) as client:
            together.wait()
            time.sleep(dice.uniform(0, PAUSE))
            for count in range(given.clicks):
                place = (number + given.annotators * (count // CLICKS_A_TASK)) % len(tasks)
                elsewhere = dice.random() < given.elsewhere
                x, y = (dice.uniform(30, 70), 22) if elsewhere else dice.choice(PLACES)
                body = _body(tasks[place], x, y)
                begun = time.perf_counter()
                answer = client.post(f"{url}/predict", json=body)
                times[number].append(1000 * (time.perf_counter() - begun))
                failures[number] += not answer.is_success
                time.sleep(dice.uniform(0.5, 1.5) * PAUSE)

    threads = [threading.Thread(target=annotate, args=(n,)) for n in range(given.annotators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for own in times for one in own], sum(failures)


def _body(task: dict[str, Any], x: float, y: float) -> dict[str, Any]:
    keypoint = {
        "original_width": 512,
        "original_height": 512,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.87, "keypointlabels": ["part"]},
        "is_positive": True,
        "id": "click",
        "from_name": "click",
        "to_name": "ref",
        "type": "keypointlabels",
        "origin": "manual",
    }
    return {
        "tasks": [task],
        "label_config": "",
        "params": {"login": None, "password": None, "context": {"result": [keypoint]}},
    }


if __name__ == "__main__":
    main()

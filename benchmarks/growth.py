"""How the store's operations grow with the number of pairs, in SQLite and in PostgreSQL.

    python benchmarks/growth.py [--pairs 10000 100000 1000000] [--databases sqlite postgresql]

Fills a store of each size and prints the best time of each operation and how much longer the largest
store takes than the smallest. The mix is that of a team in its second round: 100 pairs an identity, 17
photographs each; the first tenth in order is reviewed, 85 % have a proposal, 30 % one of the second
round. PostgreSQL is started for the run from Debian's package and flushes to the disk as it should.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).parent))
from postgresql_server import PostgresqlServer

from dataset_engine.settings import Settings
from dataset_engine.shards import Triplet
from dataset_engine.shards.plan import make_plan
from dataset_engine.store import Store
from dataset_engine.store.pairs import choose_seeds
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import (
    count_undecided,
    latest_decision_id,
    reviewed_triplets,
    status_report,
    undecided,
)
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.taxonomy import Conflict, Split, Status

PAIRS = 100
IMAGES = 17
REVIEWED, SECOND_ROUND, PROPOSED = 10, 40, 85
SEEDS = 200
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POINTS = json.dumps([[193.0, 240.0]] * 5)
Row = Sequence[Any]


def masks(store: Store) -> list[str]:
    """Sixteen stored masks."""
    yy, xx = np.mgrid[:512, :512]
    return [
        store.put_mask(((xx - 256) / 140) ** 2 + ((yy - 270) / (150 + size)) ** 2 < 1)
        for size in range(16)
    ]


def digest(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def status_of(identity: int, rank: int) -> Status:
    if rank < REVIEWED:
        return (Status.ACCEPTED, Status.ADJUSTED, Status.REJECTED)[(identity + rank) % 10 % 3]
    return Status.PROPOSED if rank < PROPOSED else Status.UNLABELLED


def fill(store: Store, count: int) -> None:
    """Put ``count`` pairs and all that hangs on them into an empty store."""
    made = masks(store)
    people = range(1, count // PAIRS + 1)
    everything = [(identity, rank) for identity in people for rank in range(PAIRS)]
    positions = np.tile(np.arange(PAIRS), len(people)) + np.random.default_rng(0).random(count)
    seeds = {int(number) + 1: rank for rank, number in enumerate(np.argsort(positions)[:SEEDS])}
    words = [",".join(sorted(c)) for r in range(3) for c in itertools.combinations(Conflict, r)]
    states: list[list[Any]] = []
    proposals: list[Row] = []
    events: list[Row] = []
    for pair, (identity, rank) in enumerate(everything, start=1):
        status = status_of(identity, rank)
        state = [pair, str(status), None, "", None, None, float(positions[pair - 1]), ""]
        rounds = [1] * (rank < PROPOSED) + [2] * (REVIEWED <= rank < SECOND_ROUND)
        for number in rounds:
            row = len(proposals) + 1
            mask, version = made[row % 16], f"unet-r{number}"
            proposals.append((row, pair, version, number, mask, 0.5, NOW))
            state[2], state[5], state[7] = mask, row, version
        for again in range((rank < REVIEWED) + (rank == identity % 10)):
            row = len(events) + 1
            conflicts, mask, at = words[row % len(words)], made[row % 16], NOW + timedelta(0, row)
            who = ("submitted", "sync", f"ann-{identity % 7}", NOW, 1, pair)
            what = (str(status), made[3], mask, conflicts, "unet-r1", 30.0, "")
            events.append((row, f"1:{pair}:{again}", pair, *who, at, *what))
            state[2:5] = mask, conflicts, row
        states.append(state)

    insert(store.engine, "annotation_projects", "id server project created_at", [(1, "x", 1, NOW)])
    splits = (*[Split.TRAIN] * 8, Split.VALIDATION, Split.TEST)
    insert(
        store.engine,
        "identities",
        "id name split source licence created_at",
        ((n, f"p{n}", splits[n % 10], "s", "l", NOW) for n in people),
    )
    insert(
        store.engine,
        "images",
        "id identity_id name created_at source_sha256 sha256 region_sha256 phash sharpness"
        " five_points",
        (
            (n, (n - 1) // IMAGES + 1, f"{n}.png", NOW, digest(-n), *described(n, made))
            for n in range(1, len(people) * IMAGES + 1)
        ),
    )
    insert(
        store.engine,
        "pairs",
        "id key identity_id created_at gt_id ref_id position seed_rank",
        (
            (n, digest(n)[:33], p[0], NOW, *images_of(*p), positions[n - 1].item(), seeds.get(n))
            for n, p in enumerate(everything, start=1)
        ),
    )
    columns = "id pair_id model_version round mask_sha256 score created_at"
    insert(store.engine, "proposals", columns, proposals)
    insert(
        store.engine,
        "events",
        "id key pair_id kind source actor at project_id annotation annotation_updated_at status"
        " mask_before mask_after conflicts model_version lead_time detail",
        events,
    )
    insert(
        store.engine,
        "pair_states",
        "pair_id status mask_sha256 conflicts event_id proposal_id position proposed_version",
        states,
    )
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("events", "proposals"):
                connection.execute(
                    text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")  # noqa: S608
                )
            connection.execute(text("VACUUM ANALYZE"))


def described(image: int, masks: Sequence[str]) -> tuple[Any, ...]:
    name = digest(image)
    return name, masks[image % 16], name[:16], 1.0, POINTS


def images_of(identity: int, rank: int) -> tuple[int, int]:
    """Ground truth and reference, another two for each rank."""
    gt = rank % IMAGES
    ref = (gt + 1 + rank // IMAGES) % IMAGES
    return (identity - 1) * IMAGES + gt + 1, (identity - 1) * IMAGES + ref + 1


def insert(engine: Engine, table: str, columns: str, rows: Iterable[Row]) -> None:
    """Insert rows in bulk: COPY in PostgreSQL, one statement in SQLite."""
    names = columns.split()
    with engine.execution_options(refstar_write=True).begin() as connection:
        raw: Any = connection.connection.driver_connection
        if engine.dialect.name == "postgresql":
            with raw.cursor().copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        marks = ", ".join("?" * len(names))
        naive = (
            tuple(
                value.replace(tzinfo=None).isoformat(" ", "microseconds")
                if isinstance(value, datetime)
                else value
                for value in row
            )
            for row in rows
        )
        raw.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", naive)  # noqa: S608


def first(rows: Iterable[object], count: int) -> None:
    assert len(list(itertools.islice(rows, count))) == count


def operations(store: Store) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and how often; the ones that write come last."""
    mask = store.mask(masks(store)[0])
    waiting = [pair.id for pair in itertools.islice(undecided(store), 1500)]
    reviewing = iter(waiting[:100])
    proposing = batches(waiting[100:], 32)

    def reading(question: Callable[[Any], object]) -> Callable[[], object]:
        def ask() -> object:
            with store.reading() as session:
                return question(session)

        return ask

    def review() -> None:
        number = next(reviewing)
        decision = Decision(number, 1, 10**8 + number, NOW, EventKind.SUBMITTED, Source.SYNC, "ann")
        assert record(store, replace(decision, accepted=True, mask=mask)).new

    def propose() -> None:
        batch = [NewProposal(number, mask, 0.5) for number in next(proposing)]
        assert add_proposals(store, "unet-r3", 3, batch) == 32

    def seeds() -> None:
        with store.writing() as session:
            assert len(choose_seeds(session, SEEDS + 20)) >= SEEDS
            session.rollback()

    total = sum(1 for _ in reviewed_triplets(store))

    def whole() -> None:
        for _ in reviewed_triplets(store):
            pass

    return {
        "next 100 undecided": (lambda: first(undecided(store), 100), 9),
        "next 100 without the round's proposal": (
            lambda: first(undecided(store, without_model="unet-r2"), 100),
            9,
        ),
        "count of undecided, round half done": (
            reading(lambda session: count_undecided(session, "unet-r2")),
            5,
        ),
        "count of undecided, new round": (
            reading(lambda session: count_undecided(session, "unet-r9")),
            5,
        ),
        "status page": (reading(status_report), 5),
        "newest decision": (reading(latest_decision_id), 9),
        "choose 20 more seeds": (seeds, 5),
        "first 100 reviewed triplets": (lambda: first(reviewed_triplets(store), 100), 5),
        f"reviewed triplets, per 1,000 @{total}": (whole, 3),
        "record a review": (review, 60),
        "keep 32 proposals": (propose, 20),
    }


def batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(numbers), size):
        yield numbers[at : at + size]


def measure(stores: Sequence[Store]) -> list[dict[str, float]]:
    """Seconds of each operation in each store, the best of several runs.

    A run takes all stores one after another, so that a busy machine slows them alike.
    """
    offered = [operations(store) for store in stores]
    times: list[dict[str, float]] = [{} for _ in stores]
    for same in zip(*(offer.items() for offer in offered), strict=True):
        taken: list[list[float]] = [[] for _ in stores]
        for number in range(1 + same[0][1][1]):
            for place, (_, (run, _)) in enumerate(same):
                began = time.perf_counter()
                run()
                if number:  # the first one warms the caches
                    taken[place].append(time.perf_counter() - began)
        for place, (name, _) in enumerate(same):
            title, _, per = name.partition(" @")
            times[place][title] = min(taken[place]) / (int(per) / 1000 if per else 1)
    return times


def measure_plan(folder: Path, sizes: Sequence[int]) -> None:
    """Time and memory of the export's plan over files that are the same few for all triplets."""
    with Store(Settings(home=folder)) as store:
        mask = masks(store)
        paths = []
        for number in range(16):
            paths.append(folder / f"{number}.jpg")
            noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(paths[-1]), cv2.resize(noise, (512, 512)))

        def triplets(count: int) -> Iterator[Triplet]:
            for n in range(count):
                person = n // PAIRS
                yield Triplet(
                    key=digest(n)[:33],
                    identity=f"s/{person}",
                    split=Split.TRAIN,
                    gt=paths[n % 16],
                    ref=paths[n % 15],
                    gt_region=store.masks.path(mask[15]),
                    ref_region=store.masks.path(mask[15]),
                    mask=store.masks.path(mask[n % 16]),
                    conflicts=(Conflict.MOUTH,),
                    status=Status.ACCEPTED,
                    round=1,
                    annotator="ann",
                    model_version="unet-r1",
                    gt_phash=digest(n)[:16],
                    ref_phash=digest(n)[16:32],
                    gt_points=((193.0, 240.0),) * 5,
                    ref_points=((193.0, 240.0),) * 5,
                    source="s",
                    licence="l",
                )

        print("\nexport plan: triplets, ms per 1,000, peak memory added")
        for size in sizes:
            read, write = os.pipe()
            child = os.fork()
            if not child:  # a process of its own, so that its peak is its own
                with tempfile.TemporaryFile(dir=folder) as spool:
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    began = time.perf_counter()
                    plan = make_plan(triplets(size), spool, lambda *_: None)
                    taken = time.perf_counter() - began
                    assert len(plan.keys) == size
                    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                os.write(write, f"{taken} {added}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            taken, added = map(float, os.read(read, 100).split())
            print(f"{size:>9,} {taken / size * 1e6:9.0f} ms {added / 1024:8.1f} MiB", flush=True)


def show(database: str, sizes: Sequence[int], results: Sequence[dict[str, float]]) -> None:
    """Print one database's table, in Markdown."""
    print(f"\n| {database} | " + " | ".join(f"{size:,} pairs" for size in sizes) + " | growth |")
    print("| --- |" + " ---: |" * (len(sizes) + 1))
    for name in results[0]:
        cells = [f"{result[name] * 1000:.1f} ms" for result in results]
        growth = results[-1][name] / results[0][name]
        print(f"| {name} | " + " | ".join(cells) + f" | {growth:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--plans", type=int, nargs="*", default=[1_000, 10_000])
    options = parser.parse_args()
    for database in options.databases:
        with ExitStack() as stack:
            server = None
            if database == "postgresql":
                server = stack.enter_context(PostgresqlServer(durable=True))
            stores = []
            for size in options.pairs:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                url = server.create(f"growth_{size}") if server else None
                stores.append(stack.enter_context(Store(Settings(home=home, database_url=url))))
                began = time.perf_counter()
                fill(stores[-1], size)
                taken = time.perf_counter() - began
                print(f"{database}, {size:,} pairs: filled in {taken:.0f} s", flush=True)
            show(database, options.pairs, measure(stores))
    if options.plans:
        with tempfile.TemporaryDirectory() as folder:
            measure_plan(Path(folder), options.plans)


if __name__ == "__main__":
    main()

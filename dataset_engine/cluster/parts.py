"""A part: the masks of some pairs, proposed in one go and written as one Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
from pyarrow import parquet

from dataset_engine.cluster.job import Job
from dataset_engine.cluster.locations import written_whole
from dataset_engine.pair_images import PairFiles
from dataset_engine.proposing import propose
from dataset_engine.store.blobs import encode_mask_png
from models.exported import ExportedRefSel
from models.refsel import RefSel

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("mask", pa.binary()),
        ("score", pa.float64()),
        ("set_aside", pa.string()),
        ("model_version", pa.string()),
    ]
)
"""`mask` is a 1-bit PNG and `score` its confidence, or both are null and `set_aside` says why."""


class PartError(ValueError):
    """A part that cannot be read; the message names it and the mend."""


@dataclass(frozen=True)
class PartCounts:
    """How many pairs of a part got a mask, and how many could not be read."""

    proposed: int
    set_aside: int


def propose_part(
    job: Job, model: RefSel | ExportedRefSel, number: int, *, workers: int = 1
) -> PartCounts:
    """Propose the masks of a part's pairs and write it, whole or not at all."""
    rows: dict[str, dict[str, Any]] = {}

    def add(key: str, mask: bytes | None, score: float | None, reason: str | None) -> None:
        rows[key] = dict(
            zip(SCHEMA.names, (key, mask, score, reason, job.model_version), strict=True)
        )

    pairs = _pairs(job, number)
    for one in propose(
        model,
        pairs,
        batch_size=job.batch_size,
        workers=workers,
        set_aside=lambda key, reason: add(key, None, None, reason),
    ):
        add(one.key, encode_mask_png(one.mask), one.score, None)
    # pairs set aside are told ahead of their turn: the list's order makes the bytes always the same
    ordered = [rows[key] for key in dict.fromkeys(pair.key for pair in pairs)]
    with written_whole(job.part(number)) as file:
        parquet.write_table(pa.Table.from_pylist(ordered, SCHEMA), file)
    left = sum(row["mask"] is None for row in ordered)
    return PartCounts(len(ordered) - left, left)


def read_part(location: str) -> Iterator[dict[str, Any]]:
    """The rows of a part, with the columns of `SCHEMA`.

    Raises:
        PartError: it is not a whole part.
    """
    with fsspec.open(location, "rb") as file:
        try:
            table = parquet.read_table(file, schema=SCHEMA)
        except pa.ArrowException as error:
            raise PartError(
                f"{location} cannot be read ({error}): remove it and run the cluster again"
            ) from error
    yield from table.to_pylist()


def _pairs(job: Job, number: int) -> list[PairFiles]:
    with fsspec.open(job.list_location, "rb") as file:
        rows = parquet.ParquetFile(file).read_row_group(number).to_pylist()
    return [PairFiles(**row) for row in rows]

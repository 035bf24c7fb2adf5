"""What a cluster is to do: which model, which pairs, and how they are cut into parts.

Everything that decides what comes out is in the job's name, a hash: parts of another list, another model
or another batch size are never taken for this job's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import fsspec
from pyarrow import parquet

from dataset_engine.cluster.locations import exists, join, names, written_whole
from dataset_engine.cluster.pair_list import PairListError, read_pair_list, write_rows
from models.refsel import CONFIG_NAME, WEIGHTS_NAME

PAIRS_A_PART = 256


@dataclass(frozen=True)
class Job:
    """Work that can be cut up and sent anywhere: only text and numbers.

    Attributes:
        name: hash of the list, the model and the settings, in hex.
        out: folder of the parts.
        model: folder of the model, as every worker sees it.
        model_version: what the proposals are stored under.
        parts: how many there are.
        pairs: how many pairs they hold.
        batch_size: pairs a forward pass.
    """

    name: str
    out: str
    model: str
    model_version: str
    parts: int
    pairs: int
    batch_size: int

    @property
    def list_location(self) -> str:
        """The list as this job has it: row group N is part N's pairs."""
        return join(self.out, f"list-{self.name}.parquet")

    def part_name(self, number: int) -> str:
        """The file name of a part."""
        return f"part-{self.name}-{number:06d}.parquet"

    def part(self, number: int) -> str:
        """The location of a part."""
        return join(self.out, self.part_name(number))

    def missing(self) -> list[int]:
        """Numbers of the parts that are not finished yet."""
        there = names(self.out)
        return [number for number in range(self.parts) if self.part_name(number) not in there]


def prepare_job(
    pair_list: str,
    model: Path,
    model_version: str,
    out: str,
    *,
    batch_size: int = 4,
    pairs_a_part: int = PAIRS_A_PART,
) -> Job:
    """Name the job and put its list, cut into parts, beside where the parts will be.

    Args:
        pair_list: location of the list; see `dataset_engine.cluster.pair_list`.
        model: folder that `RefSel.save_pretrained` wrote.
        model_version: its version.
        out: folder of the parts, at any fsspec location that all workers can write.
        batch_size: pairs a forward pass.
        pairs_a_part: pairs a part, what a kill can cost; a multiple of `batch_size` wastes nothing.

    Raises:
        PairListError: the list cannot be read, or has no pairs.
        FileNotFoundError: the list or the model is not there.
    """
    digest = hashlib.sha256(f"{model_version}\n{batch_size}\n{pairs_a_part}\n".encode())
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        digest.update(hashlib.sha256((model / name).read_bytes()).digest())
    with fsspec.open(pair_list, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    job = digest.hexdigest()[:16]
    cut = join(out, f"list-{job}.parquet")
    if not exists(cut):
        with written_whole(cut) as file:
            write_rows(read_pair_list(pair_list), file, pairs_a_part)
    with fsspec.open(cut, "rb") as file:
        described = parquet.ParquetFile(file).metadata
    if not described.num_rows:
        raise PairListError(f"{pair_list} has no pairs: nothing is left to propose, or list others")
    return Job(
        name=job,
        out=out,
        model=str(model.absolute()),
        model_version=model_version,
        parts=described.num_row_groups,
        pairs=described.num_rows,
        batch_size=batch_size,
    )

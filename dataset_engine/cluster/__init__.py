"""Proposals over several machines or GPUs, on Ray Data: a list of pairs in, parts with masks out.

The list and the parts lie wherever fsspec reaches (a folder, ``s3://``, ``gs://``), so that no machine
needs the store's database. `write_pair_list` or anybody else makes the list, `run_on_ray` the parts,
and `take_parts` brings them into the store.
"""

from __future__ import annotations

from dataset_engine.cluster.job import Job, prepare_job
from dataset_engine.cluster.pair_list import PairListError, list_undecided, write_pair_list
from dataset_engine.cluster.parts import PartError, propose_part
from dataset_engine.cluster.running import ClusterReport, run_on_ray
from dataset_engine.cluster.taking import TakeReport, take_parts

__all__ = [
    "ClusterReport",
    "Job",
    "PairListError",
    "PartError",
    "TakeReport",
    "list_undecided",
    "prepare_job",
    "propose_part",
    "run_on_ray",
    "take_parts",
    "write_pair_list",
]

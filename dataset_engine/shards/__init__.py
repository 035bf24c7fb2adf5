"""RefSel-HQ shards: reviewed triplets are exported to them, read from them and verified in them.

Writing needs no PyTorch; it is imported when the reader or the sampler is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataset_engine.shards.errors import (
    REFUSALS,
    CorruptSampleError,
    ExportBusyError,
    ExportRefusedError,
    Finding,
    ShardError,
    UnsafeMemberError,
)
from dataset_engine.shards.export import VersionReport, write_version
from dataset_engine.shards.importing import read_triplets
from dataset_engine.shards.plan import SetAside
from dataset_engine.shards.triplet import Triplet
from dataset_engine.shards.verification import Problem, VerifyReport, verify
from dataset_engine.taxonomy import Conflict, Scenario, Split, scenarios

if TYPE_CHECKING:
    from dataset_engine.shards.order import ResumableSampler, epoch_order
    from dataset_engine.shards.reader import RefSelSample, RefSelShards, collate

__all__ = [
    "REFUSALS",
    "Conflict",
    "CorruptSampleError",
    "ExportBusyError",
    "ExportRefusedError",
    "Finding",
    "Problem",
    "RefSelSample",
    "RefSelShards",
    "ResumableSampler",
    "Scenario",
    "SetAside",
    "ShardError",
    "Split",
    "Triplet",
    "UnsafeMemberError",
    "VerifyReport",
    "VersionReport",
    "collate",
    "epoch_order",
    "read_triplets",
    "scenarios",
    "verify",
    "write_version",
]


def __getattr__(name: str) -> object:
    if name in ("ResumableSampler", "epoch_order"):
        from dataset_engine.shards import order  # noqa: PLC0415 - see the docstring

        return getattr(order, name)
    if name in ("RefSelSample", "RefSelShards", "collate"):
        from dataset_engine.shards import reader  # noqa: PLC0415

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

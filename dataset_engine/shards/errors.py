"""What can go wrong with shards, each with the file, the cause and the mend in its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IDENTITY_LEAK: Final = "identity-leak"
NEAR_DUPLICATE: Final = "near-duplicate"
MASK_OUTSIDE_REGION: Final = "mask-outside-region"
REFUSALS: Final = (IDENTITY_LEAK, NEAR_DUPLICATE, MASK_OUTSIDE_REGION)

_EXAMPLES: Final = 10
_MENDS: Final = {
    IDENTITY_LEAK: "move all pairs of the identity into one split",
    NEAR_DUPLICATE: "their hashes are close and their pixels agree; move the identities of both "
    "images into one split, or remove one of the images",
    MASK_OUTSIDE_REGION: "cut the mask to the face region of its reference, or correct the region",
}


class ShardError(RuntimeError):
    """A set of shards cannot be written or read as asked."""


class ExportBusyError(ShardError):
    """Another process is exporting to the same folder."""


class UnsafeMemberError(ShardError):
    """A tar member is not a plain file of a triplet, such as a path that climbs out of the folder."""


class CorruptSampleError(ShardError):
    """A sample's bytes in a shard are not what was written.

    Attributes:
        shard: the shard's file.
        key: the sample's key.
    """

    def __init__(self, shard: Path, key: str, cause: str) -> None:
        self.shard = shard
        self.key = key
        self.cause = cause
        super().__init__(
            f"{shard}: sample {key}: {cause}. Restore the shard from a copy or export it again; "
            'on_error="skip" reads past it.'
        )

    def __reduce__(self) -> tuple[type[CorruptSampleError], tuple[Path, str, str]]:
        # A DataLoader worker sends its exception to the main process by pickle.
        return CorruptSampleError, (self.shard, self.key, self.cause)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for which an export is refused.

    Attributes:
        name: the refusal, one of ``REFUSALS``; passing it in ``allow`` lets the export go on.
        count: how many cases were found.
        examples: the first cases, in words, at most ten.
    """

    name: str
    count: int
    examples: tuple[str, ...]

    @classmethod
    def of(cls, name: str, cases: Sequence[str], count: int | None = None) -> Finding:
        """The finding for ``cases``, of which the first ten are kept."""
        return cls(name, len(cases) if count is None else count, tuple(cases[:_EXAMPLES]))

    def __str__(self) -> str:
        shown = "".join(f"\n  {example}" for example in self.examples)
        rest = self.count - len(self.examples)
        more = f"\n  and {rest} more" if rest else ""
        return f"{self.name}: {self.count} found; {_MENDS[self.name]}{shown}{more}"


class ExportRefusedError(ShardError):
    """The triplets would make a data set that misleads, and nothing was written.

    Attributes:
        findings: what was found, one entry a refusal.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        names = ", ".join(finding.name for finding in findings)
        super().__init__(
            "the export is refused.\n"
            + "\n".join(str(finding) for finding in findings)
            + f"\nMend this, or allow it by name: {names}"
        )

"""What a restoration did: a line a picture while it runs, and one report when it ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from restoration.json_report import write_json
from restoration.restore.jobs import LeftOut

JOURNAL: Final = "restored.jsonl"
REPORT: Final = "restore.json"


@dataclass(frozen=True)
class Restored:
    """One picture that was restored."""

    name: str
    key: str
    """SHA-256 over the files, the pipeline and the settings that it was made with."""
    picture: str
    reference: str
    why: str
    """Why this reference."""
    selected: float
    """Share of the reference that was used, 0 to 1."""
    similarity: float | None
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """What was written, in the folder, with the SHA-256 of each."""


@dataclass
class Report:
    """What a run did."""

    restored: list[Restored] = field(default_factory=list)
    known: int = 0
    """How many of these were there before."""
    left: list[LeftOut] = field(default_factory=list)

    @property
    def reasons(self) -> Counter[str]:
        """How many files were set aside for each reason."""
        return Counter(one.reason for one in self.left)

    def write(self, folder: Path, **settings: Any) -> Path:  # noqa: ANN401 - plain values
        """Write `restore.json` with everything by name; the path."""
        path = folder / REPORT
        write_json(
            path,
            {
                "settings": settings,
                "restored": [asdict(one) for one in self.restored],
                "set_aside": [
                    {"file": str(one.path), "reason": one.reason, "detail": one.detail}
                    for one in self.left
                ],
                "counts": {"restored": len(self.restored), **self.reasons},
            },
        )
        return path


def add_lines(folder: Path, restored: Iterable[Restored]) -> None:
    """Put finished pictures into the journal."""
    # A break before as well: a line that a power cut tore must not spoil the next one.
    lines = "".join(f"\n{json.dumps(asdict(one))}\n" for one in restored)
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(lines)


def read_lines(folder: Path) -> dict[str, Restored]:
    """What earlier runs finished, by name; a line that was cut off does not count."""
    path = folder / JOURNAL
    found: dict[str, Restored] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                one = Restored(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[one.name] = one
    return found

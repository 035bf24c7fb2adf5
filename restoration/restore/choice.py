"""Which of several references is used: the one that RefSel selects most of, of the same person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Candidate:
    """A reference as RefSel and ArcFace see it beside the degraded face."""

    path: Path
    area: float
    """Share of the reference that RefSel selects, 0 to 1."""
    similarity: float | None
    """Cosine of ArcFace's embeddings of the degraded face and of the reference; None if unknown."""


@dataclass(frozen=True)
class Choice:
    """The reference that is used."""

    number: int
    """Among the candidates."""
    why: str
    agrees: bool
    """False where every candidate looks like somebody else."""


def choose(candidates: Sequence[Candidate], threshold: float) -> Choice:
    """The candidate with the largest selected area among those of the same person.

    Args:
        candidates: at least one.
        threshold: similarity from which two faces count as one person.
    """
    numbers = range(len(candidates))
    same = [n for n in numbers if _agrees(candidates[n], threshold)]
    best = max(same or numbers, key=lambda n: candidates[n].area)
    chosen = candidates[best]
    other = len(candidates) - len(same)
    why = f"{chosen.area:.0%} of it is selected"
    if len(candidates) > 1:
        why += f", the most of {len(same) or len(candidates)} references"
    if chosen.similarity is None:
        return Choice(best, f"{why}; identity was not compared", agrees=True)
    why += f"; similarity {chosen.similarity:.2f}"
    if not same:
        return Choice(best, f"{why}, under {threshold:.2f}: perhaps another person", agrees=False)
    if other:
        why += f"; {other} passed over as perhaps another person"
    return Choice(best, why, agrees=True)


def _agrees(candidate: Candidate, threshold: float) -> bool:
    return candidate.similarity is None or candidate.similarity >= threshold

"""What a version holds, counted a split: for its manifest and its card."""

from __future__ import annotations

from collections import Counter

from dataset_engine.shards.triplet import Triplet
from dataset_engine.taxonomy import Conflict, Scenario, Split, Status, scenarios

Table = dict[str, dict[Split, int]]

TRIPLETS = "triplets"
IDENTITIES = "identities"
SCENARIO = "scenario"
CONFLICT = "conflict"
STATUS = "status"
ROUND = "round"
ANNOTATOR = "annotator"
MODEL = "model version"
SOURCE = "source"
LICENCE = "licence"
CONSENT = "consent"

_ORDERS: dict[str, list[str]] = {
    SCENARIO: list(Scenario),
    CONFLICT: list(Conflict),
    STATUS: list(Status),
}


class Counts:
    """Counts triplets by what people ask of a data set, in every split."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[tuple[str, Split]]] = {}
        self._identities: set[tuple[str, Split]] = set()

    def add(self, triplet: Triplet) -> None:
        """Count one triplet."""
        split = triplet.split
        self._count(TRIPLETS, "all", split)
        if (triplet.identity, split) not in self._identities:
            self._identities.add((triplet.identity, split))
            self._count(IDENTITIES, "all", split)
        for conflict in set(triplet.conflicts):
            self._count(CONFLICT, conflict, split)
        for scenario in scenarios(triplet.conflicts):
            self._count(SCENARIO, scenario, split)
        if not triplet.conflicts:
            self._count(CONFLICT, "none", split)
        self._count(STATUS, triplet.status, split)
        self._count(ROUND, str(triplet.round), split)
        self._count(ANNOTATOR, triplet.annotator, split)
        self._count(MODEL, triplet.model_version or "none (by hand)", split)
        self._count(SOURCE, triplet.source, split)
        self._count(LICENCE, triplet.licence, split)
        self._count(CONSENT, triplet.consent, split)

    def _count(self, what: str, value: str, split: Split) -> None:
        self._counts.setdefault(what, Counter())[value, split] += 1

    def table(self, what: str) -> Table:
        """Value -> split -> number, in the taxonomy's order where it has one, else sorted."""
        counter = self._counts.get(what, Counter())
        order = _ORDERS.get(what, [])

        def place(value: str) -> tuple[int, int, str]:
            known = order.index(value) if value in order else len(order)
            return known, int(value) if what == ROUND else 0, value

        values = sorted({value for value, _ in counter}, key=place)
        return {value: {split: counter[value, split] for split in Split} for value in values}

    def tables(self) -> dict[str, Table]:
        """All tables by what they count, in a fixed order."""
        whats = (
            TRIPLETS,
            IDENTITIES,
            SCENARIO,
            CONFLICT,
            STATUS,
            ROUND,
            ANNOTATOR,
            MODEL,
            SOURCE,
            LICENCE,
            CONSENT,
        )
        return {what: self.table(what) for what in whats}

    @property
    def triplets(self) -> int:
        """How many triplets there are in all."""
        return self._counts.get(TRIPLETS, Counter()).total()

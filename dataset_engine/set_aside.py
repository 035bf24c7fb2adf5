"""Pairs that a long run could not use: all counted, the first ones named with their reason."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMED = 1000
"""How many are named, so that a report stays small however many there are."""


@dataclass
class SetAside:
    """Pairs that were set aside.

    Attributes:
        count: how many.
        reasons: why, by pair key, of the first `NAMED`.
    """

    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, reason: str) -> None:
        """Count a pair."""
        self.count += 1
        if len(self.reasons) < NAMED:
            self.reasons[key] = reason

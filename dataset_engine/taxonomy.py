"""The words of the annotation protocol: conflicts on two axes, scenarios, splits and statuses.

The taxonomy is the paper's ("Data Engine"): dynamic conflicts come from expression, static ones from
the skin or from what is worn on it. Scenarios are the five test groups of its Table 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Axis(StrEnum):
    """The two axes of the taxonomy."""

    DYNAMIC = "dynamic"
    STATIC = "static"


class Conflict(StrEnum):
    """A reason for which a part of the reference may not be transferred."""

    MOUTH = "mouth"
    EYES = "eyes"
    WRINKLES = "wrinkles"
    PIGMENTATION = "pigmentation"
    GLASSES = "glasses"
    COSMETICS = "cosmetics"
    BEARD = "beard"
    PATTERN = "pattern"

    @property
    def axis(self) -> Axis:
        """The axis that the conflict lies on."""
        dynamic = (Conflict.MOUTH, Conflict.EYES, Conflict.WRINKLES)
        return Axis.DYNAMIC if self in dynamic else Axis.STATIC


class Scenario(StrEnum):
    """One of the five test groups of the paper's Table 3."""

    MOUTH = "mouth"
    EYES = "eyes"
    WRINKLES = "wrinkles"
    BEARD = "beard"
    GLASSES_PATTERNS = "glasses_patterns"

    @property
    def conflicts(self) -> frozenset[Conflict]:
        """The conflicts that put a pair into this scenario.

        Table 3 has no row of its own for pigmentation and cosmetics; like tattoos they are surface
        patterns, so they are counted with "glasses and patterns".
        """
        if self is Scenario.GLASSES_PATTERNS:
            return frozenset(
                {Conflict.GLASSES, Conflict.PATTERN, Conflict.COSMETICS, Conflict.PIGMENTATION}
            )
        return frozenset({Conflict(self.value)})


def scenarios(conflicts: Iterable[Conflict]) -> tuple[Scenario, ...]:
    """The scenarios that a pair with these conflicts belongs to, in the order of Table 3."""
    present = frozenset(conflicts)
    return tuple(scenario for scenario in Scenario if scenario.conflicts & present)


class Split(StrEnum):
    """Where an identity is used; an identity is never in two splits."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Status(StrEnum):
    """What people have decided about a pair so far."""

    UNLABELLED = "unlabelled"
    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    ADJUSTED = "adjusted"
    REJECTED = "rejected"
    ADJUDICATE = "adjudicate"
    """Two annotators disagree: a third person has the last word, on the review pages."""

    @property
    def reviewed(self) -> bool:
        """Whether a person has made or kept the mask, so that it may be exported and trained on."""
        return self in (Status.ACCEPTED, Status.ADJUSTED)

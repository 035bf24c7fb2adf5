"""Which pairs RefSel is tested on: five scenarios of 50 pairs each (paper, Table 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataset_engine.degradation import DegradationSettings
from dataset_engine.shards import Conflict, Scenario, scenarios
from dataset_engine.shards.stream import example_seed
from restoration.refsel_data import Example, Samples, make_example

SEVERE_TRIES = 60
"""Seeds tried for a severe input of one triplet; the mild presets rarely have one."""


class LabelledSamples(Samples, Protocol):
    """Triplets whose conflicts are known without decoding them."""

    def conflicts(self, index: int, /) -> tuple[Conflict, ...]:
        """The conflicts that a person named."""
        ...


@dataclass(frozen=True)
class Case:
    """One test input: triplet `index` of the split, degraded with `seed`, counted for `scenario`."""

    index: int
    seed: int
    scenario: Scenario


def choose_cases(samples: LabelledSamples, per_scenario: int, seed: int) -> list[Case]:
    """At most `per_scenario` pairs for each scenario, no pair twice.

    A pair with several conflicts could stand for several scenarios. It goes to the one that has the
    fewest candidates left, so that a rare scenario fills up before a common one takes its pairs.

    Args:
        samples: the test split.
        per_scenario: 50 in the paper.
        seed: of the choice and of the degradations; the same seed always gives the same cases.
    """
    candidates: dict[Scenario, list[int]] = {scenario: [] for scenario in Scenario}
    for index in np.random.default_rng([seed, 5]).permutation(len(samples)).tolist():
        for scenario in scenarios(samples.conflicts(index)):
            candidates[scenario].append(index)
    chosen: dict[Scenario, list[int]] = {scenario: [] for scenario in Scenario}
    taken: set[int] = set()
    for scenario in sorted(Scenario, key=lambda one: len(candidates[one])):
        free = [index for index in candidates[scenario] if index not in taken]
        chosen[scenario] = free[:per_scenario]
        taken.update(chosen[scenario])
    return [
        Case(index, example_seed(seed, 0, index), scenario)
        for scenario in Scenario
        for index in sorted(chosen[scenario])
    ]


def severe_examples(
    samples: Samples,
    indices: Sequence[int],
    degradation: DegradationSettings,
    count: int,
    seed: int,
) -> Iterator[Example]:
    """Examples of the same preset whose degradation is severe, one of a triplet at most.

    Chance alone would give too few to judge the severe rule by. Each triplet's first severe draw
    among `SEVERE_TRIES` is taken; triplets without one are passed over.
    """
    found = 0
    for index in indices:
        for attempt in range(1, SEVERE_TRIES + 1):
            if found == count:
                return
            example = make_example(samples[index], example_seed(seed, attempt, index), degradation)
            if example.severe:
                yield example
                found += 1
                break

"""Which pairs RefSel is tested on: five scenarios of 50 pairs each (paper, Table 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

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

    A pair with several conflicts could stand for several scenarios; which one it stands for is chosen
    so that as many places as possible are filled.

    Args:
        samples: the test split.
        per_scenario: 50 in the paper.
        seed: of the choice and of the degradations; the same seed always gives the same cases.
    """
    order = np.random.default_rng([seed, 5]).permutation(len(samples))
    fits = np.array(
        [[one in scenarios(samples.conflicts(index)) for one in Scenario] for index in order],
        bool,
    ).reshape(len(order), len(Scenario))
    # a row is a scenario's place, a column a pair; every scenario has `per_scenario` places
    places = csr_matrix(np.repeat(fits.T, per_scenario, axis=0))
    taken = maximum_bipartite_matching(places, perm_type="column")
    chosen = [
        (place // per_scenario, int(order[pair])) for place, pair in enumerate(taken) if pair >= 0
    ]
    return [
        Case(index, example_seed(seed, 0, index), list(Scenario)[scenario])
        for scenario, index in sorted(chosen)
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

"""In which order pairs are offered to annotators, and to how many people each.

Uncertain pairs come first, of all people in turn, so that a round learns as much as it can. Every tenth
place belongs to a pair that was drawn without looking at the model: what people answer to these says
how good proposals are, since the others are the hard ones. Everything is drawn by the pairs' keys and a
seed, so that the same store gives the same order again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dataset_engine.settings import Settings
from dataset_engine.store.pairs import seeded_fraction

RANDOM_SHARE = 0.1
STEP = 1e-7
"""Between two places; Label Studio takes scores in [0, 1] only, which leaves room for ten millions."""


@dataclass(frozen=True)
class Mix:
    """What is mixed into the order.

    Attributes:
        gold_share: share of gold tasks among what an annotator sees.
        double_share: share of the pairs that two annotators answer.
        seed: decides which ones.
    """

    gold_share: float = 0.0
    double_share: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Mix:
        """The mix that the settings name."""
        return cls(settings.gold_share, settings.double_share, settings.seed)

    def random(self, key: str) -> bool:
        """Whether a pair is one of the tenth that is drawn without looking at the model."""
        return seeded_fraction(self.seed, "random-tenth", key) < RANDOM_SHARE

    def double(self, key: str) -> bool:
        """Whether a pair is offered to two annotators."""
        return seeded_fraction(self.seed, "double", key) < self.double_share


NOTHING_MIXED = Mix()


@dataclass(frozen=True)
class Candidate:
    """A pair that waits to be offered.

    Attributes:
        pair_id: row id.
        proposal_id: row id of the proposal that is shown.
        key: the pair's key.
        identity_id: row id of the person.
        position: the pair's place among pairs of equal uncertainty.
        uncertainty: how unsure the model is: the higher, the sooner the pair is offered.
    """

    pair_id: int
    proposal_id: int
    key: str
    identity_id: int
    position: float
    uncertainty: float


@dataclass(frozen=True)
class Offer:
    """A pair that is to be sent: the proposal shown, its place, and how many people get it."""

    pair_id: int
    proposal_id: int
    place: float
    overlap: int


def in_order(candidates: Iterable[Candidate], mix: Mix) -> list[Candidate]:
    """Candidates as they are offered: the most uncertain pair of each person, then their second ones.

    Every tenth place is one of the random tenth's, as long as there are any; they come in random order.
    """
    drawn: list[Candidate] = []
    rest: list[Candidate] = []
    for one in candidates:
        (drawn if mix.random(one.key) else rest).append(one)
    drawn.sort(key=lambda one: seeded_fraction(mix.seed, "order", one.key))
    rest.sort(key=lambda one: (-one.uncertainty, one.position, one.pair_id))
    of_person: Counter[int] = Counter()
    turns = []
    for rank, one in enumerate(rest):
        turns.append((of_person[one.identity_id], rank, one))
        of_person[one.identity_id] += 1
    waiting = iter([one for _, _, one in sorted(turns, key=lambda turn: turn[:2])])
    return list(_merged(iter(drawn), waiting, len(drawn) + len(rest), mix.seed))


def gold_places(open_places: Sequence[float], people: int, mix: Mix) -> list[float]:
    """Where gold tasks go among places that are still to be answered, ascending.

    A gold task is offered to everybody and any other to one person, so that of several people each
    reaches the next one after as many tasks as one person alone would. They are not evenly spaced: who
    counts tasks does not find them.
    """
    if not mix.gold_share or not open_places:
        return []
    every = people * (1 - mix.gold_share) / mix.gold_share
    places = []
    for number in range(round(len(open_places) / every)):
        shift = seeded_fraction(mix.seed, "gold", str(number), repr(open_places[0]))
        index = min(int((number + shift) * every), len(open_places) - 1)
        places.append(open_places[index] + STEP / 2)
    return places


def _merged(
    drawn: Iterator[Candidate], rest: Iterator[Candidate], count: int, seed: int
) -> Iterator[Candidate]:
    """One of the drawn at a random place of every ten."""
    ten = round(1 / RANDOM_SHARE)
    for place in range(count):
        block, within = divmod(place, ten)
        turn = within == int(ten * seeded_fraction(seed, "place", str(block)))
        first, second = (drawn, rest) if turn else (rest, drawn)
        found = next(first, None) or next(second, None)
        if found is not None:
            yield found

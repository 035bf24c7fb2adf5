"""An endless stream of shuffled epochs, of which every place is known without what came before."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.order import epoch_order


def example_at(position: int, count: int, seed: int) -> tuple[int, int]:
    """Which (epoch, sample) is at `position` of the stream; `count` samples an epoch.

    A batch may span two epochs, so that none is short, and a run resumes at a step without replaying
    those before it.
    """
    epoch, place = divmod(position, count)
    return epoch, int(_order(count, seed, epoch)[place])


def example_seed(seed: int, epoch: int, index: int) -> int:
    """A seed in [0, 2**63) for everything random about one sample of one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> 1)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return epoch_order(count, seed, epoch)

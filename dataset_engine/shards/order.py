"""The order of samples in an epoch: a function of (seed, epoch) alone, so that a run resumes in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


def epoch_order(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``range(length)``, int64 [length]; seed and epoch are not negative.

    It sorts the raw output of PCG64, which NumPy promises to keep, while ``Generator.permutation`` may
    change between releases and with it the meaning of a checkpoint.
    """
    draws = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(length)
    return np.argsort(draws, kind="stable").astype(np.int64, copy=False)


class ResumableSampler(Sampler[int]):
    """Gives the samples of one epoch in ``epoch_order``, from any position on.

    A trainer stores (epoch, samples used) with its checkpoint and calls ``set_epoch`` with both; what a
    DataLoader has fetched ahead does not matter then.
    """

    def __init__(self, length: int, seed: int, *, epoch: int = 0, start: int = 0) -> None:
        self._length = length
        self._seed = seed
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of its samples are already used.

        Raises:
            ValueError: if ``start`` is not in 0 to the number of samples.
        """
        if not 0 <= start <= self._length:
            raise ValueError(f"an epoch of {self._length} samples cannot start at {start}")
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self._length, self._seed, self.epoch)
        yield from order[self.start :].tolist()

    def __len__(self) -> int:
        return self._length - self.start

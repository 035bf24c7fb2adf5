"""Averaged weights (EMA) of what learns: frozen networks are not copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of parameters, which can stand in for them for a while."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """Begin at the parameters' values; `decay` in [0, 1) is reached over the first steps."""
        self._parameters = parameters
        self._decay = decay
        self._average = {name: one.detach().clone() for name, one in parameters.items()}

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after `done` steps, of which an early one weighs more.

        The decay is a function of the step, so that a resumed run needs no counter.
        """
        decay = min(self._decay, (1 + done) / (10 + done))
        for name, average in self._average.items():
            average.lerp_(self._parameters[name], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages where the parameters are; afterwards these are back, bit for bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._average[name] = self._average[name], parameter.data

    def state(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(self._average)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take averages that `state` gave."""
        for name, average in self._average.items():
            average.copy_(state[name])

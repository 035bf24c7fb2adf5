"""The state of a phase on disk: all that the next step depends on, and the newest few of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from models.checkpoint import read_state, write_state
from restoration.refstar_average import AveragedWeights

FOLDER_NAME: Final = "states"


class States:
    """Writes, finds and restores a phase's states.

    What learns is kept by name with its average and its optimiser, the discriminator with its own.
    Learning rate, data, order and whatever else is random are functions of the step and the seed.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, object],
        keep: int,
        *,
        parameters: Mapping[str, nn.Parameter],
        average: AveragedWeights,
        stateful: Mapping[str, Any],
    ) -> None:
        """Take what is to be kept.

        Args:
            folder: of the phase.
            run: what has to be equal for a state to be gone on with; plain values.
            keep: how many of the newest states stay.
            parameters: what learns, by name.
            average: of these.
            stateful: optimisers and modules, by name, that have `state_dict` and `load_state_dict`.
        """
        self._folder = folder / FOLDER_NAME
        self._run = json.loads(json.dumps(dict(run)))
        self._keep = keep
        self._parameters, self._average, self._stateful = parameters, average, stateful
        self.losses: list[float] = []
        """Of each step that was done."""
        self.best = -float("inf")
        """Highest score so far."""

    def begin(self, resume: bool) -> int:
        """Restore the newest state, and say how many steps are done.

        Raises:
            ValueError: there are states and nobody asked to go on with them, or they are of
                another run.
            CheckpointError: the newest state is broken.
        """
        found = self._found()
        if not found:
            return 0
        if not resume:
            raise ValueError(
                f"{self._folder} holds the states of a training; give --resume latest to go on "
                "with it, or another --out"
            )
        path = found[-1]
        state = read_state(path)
        other = [name for name in self._run if state["run"].get(name) != self._run[name]]
        if other:
            raise ValueError(
                f"{path} is of a training with another {', '.join(other)}; go on with what it was "
                "begun with, or give another --out"
            )
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state["parameters"][name])
        self._average.load(state["average"])
        for name, one in self._stateful.items():
            one.load_state_dict(state[name])
        self.losses, self.best = list(state["losses"]), float(state["best"])
        return len(self.losses)

    def write(self) -> Path:
        """Write the state whole, then remove the oldest that are too many."""
        path = self._folder / f"step-{len(self.losses):08d}.pt"
        state = {
            "run": self._run,
            "parameters": {name: one.detach() for name, one in self._parameters.items()},
            "average": self._average.state(),
            "losses": self.losses,
            "best": self.best,
        }
        write_state(path, state | {name: one.state_dict() for name, one in self._stateful.items()})
        for old in self._found()[: -self._keep]:
            old.unlink()
        return path

    def _found(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))

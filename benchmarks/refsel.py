"""RefSel's forward pass beside that of its bare network, in turns, in one process.

The bare network is stem, encoder, joins, decoder and head. It gets relative colours and stops at its
two maps. Those colours, the estimate of the kept detail and making one mask of the maps are what
RefSel adds.

    python benchmarks/refsel.py [--batch 4] [--rounds 30] [--threads 1]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from models.optimisation import autocast
from models.refsel import RefSel
from models.refsel_inputs import relative_colours
from restoration.refsel_config import read_training

RECIPE = Path(__file__).parents[1] / "restoration/configs/refsel-sample.yaml"


def main(
    batch: Annotated[int, typer.Option(min=1, help="Pairs in a batch.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Passes of each kind.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch.")] = 1,
) -> None:
    """Time both kinds of pass in turns and print their medians and ratio."""
    torch.set_num_threads(threads)
    config = read_training(RECIPE).model
    model = RefSel(config).eval().to(memory_format=torch.channels_last)
    side = config.working_size or 512
    first, reference = torch.rand(2, batch, 3, side, side).unbind()
    prepared = relative_colours([first, reference])

    def bare() -> Tensor:
        return model.maps(prepared)[0]

    def whole() -> Tensor:
        return model(first, reference)

    with torch.inference_mode(), autocast(torch.device("cpu")):
        times = _in_turns([bare, whole], rounds)
    alone, forward = (1000 * statistics.median(of_kind) / batch for of_kind in times)
    typer.echo(f"{side} px, batches of {batch}, {threads} thread(s), {rounds} passes of each kind")
    typer.echo(f"network alone  {alone:7.1f} ms a pair")
    typer.echo(f"RefSel.forward {forward:7.1f} ms a pair")
    typer.echo(f"ratio          {forward / alone:7.2f}")


def _in_turns(passes: list[Callable[[], Tensor]], rounds: int) -> list[list[float]]:
    """Seconds of each pass, `rounds` times; the first time of each is not counted."""
    times: list[list[float]] = [[] for _ in passes]
    for round_number in range(rounds + 1):
        for taken, run in zip(times, passes, strict=True):
            start = time.perf_counter()
            run()
            if round_number:
                taken.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    typer.run(main)

"""What a step of RefSTAR's training costs beside its networks alone, and what the cycle keeps in memory.

python benchmarks/refstar_step.py              exits with 1 above a goal
python benchmarks/refstar_step.py --steps 50   more repeats
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from models.reference_features import ReferenceFeatures, gather_features
from models.restorer import Phase, Restorer
from restoration.dry_run import dry_run
from restoration.refstar_average import AveragedWeights
from restoration.refstar_config import MaskSource, RefStarTraining, chosen_settings
from restoration.refstar_data import Batch
from restoration.refstar_networks import Networks, open_networks
from restoration.refstar_phase_one import phase_one_loss
from restoration.refstar_phase_two import phase_two_loss
from restoration.refstar_session import learner_of

GOAL_STEP = 1.3
GOAL_MEMORY = 1.15
LOSSES = {Phase.ONE: phase_one_loss, Phase.TWO: phase_two_loss}


def drawn(settings: RefStarTraining, phase: Phase) -> Batch:
    """Faces of noise: what a step costs does not depend on what they show."""
    count, size = settings.phase(phase).batch_size, settings.data.size
    images = torch.rand(4, count, 3, size, size, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(count, 1, size, size)
    return Batch(*images, mask, mask)


def networks_of(settings: RefStarTraining, phase: Phase) -> Networks:
    networks = open_networks(settings, Phase.ONE, weights=Path())
    if phase is Phase.TWO:
        networks.pipeline.restorer.add_reference()
    return networks


def step_of(settings: RefStarTraining, phase: Phase) -> Callable[[], None]:
    """One step as `train-restoration` takes it, but for drawing the faces."""
    networks, batch = networks_of(settings, phase), drawn(settings, phase)
    learner, parameters = learner_of(networks, phase)
    shared = settings.optimisation
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=1e-4, betas=(shared.beta1, shared.beta2), fused=True
    )
    average = AveragedWeights(parameters, shared.ema_decay)

    def step() -> None:
        loss, _ = LOSSES[phase](learner, batch, networks, settings, lambda _: None)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), shared.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update(1)

    return step


def bare_of(settings: RefStarTraining, phase: Phase) -> Callable[[], None]:
    """Forward and backward of the networks of a step, each by itself and on tensors that lie ready."""
    networks, batch = networks_of(settings, phase), drawn(settings, phase)
    learner_of(networks, phase)
    restorer = networks.pipeline.restorer
    latent = restorer.autoencoder.encode(batch.degraded).detach()
    prompt = networks.pipeline.prompt.of(batch.reference)
    if phase is Phase.ONE:
        return lambda: _backward(restorer, latent, prompt, None)
    given = _looked_at(restorer, latent, prompt, batch)
    passes = 2 if settings.losses.cycle else 1

    def bare() -> None:
        for _ in range(passes):
            _look(restorer, latent, prompt)
            _backward(restorer, latent, prompt, given)

    return bare


def _backward(
    restorer: Restorer, latent: torch.Tensor, prompt: torch.Tensor, given: ReferenceFeatures | None
) -> None:
    passed = None if given is None else {"reference": given}
    out = restorer.unet(
        latent, restorer.config.timestep, prompt, cross_attention_kwargs=passed
    ).sample
    out.backward(torch.ones_like(out))
    restorer.zero_grad(set_to_none=True)


def _look(restorer: Restorer, latent: torch.Tensor, prompt: torch.Tensor) -> None:
    assert restorer.reference_net is not None
    banks = list(
        restorer.reference_net(latent, restorer.config.reference_timestep, prompt).values()
    )
    torch.autograd.backward(banks, [torch.ones_like(one) for one in banks])
    restorer.zero_grad(set_to_none=True)


def _looked_at(
    restorer: Restorer, latent: torch.Tensor, prompt: torch.Tensor, batch: Batch
) -> ReferenceFeatures:
    assert restorer.reference_net is not None
    with torch.no_grad():
        banks = restorer.reference_net(latent, restorer.config.reference_timestep, prompt)
    leaves = {name: one.detach().requires_grad_() for name, one in banks.items()}
    grid = (latent.shape[2], latent.shape[3])
    return gather_features(leaves, batch.mask, grid, restorer.config.attention)


def side_by_side(first: Callable[[], None], second: Callable[[], None], steps: int) -> np.ndarray:
    """Seconds of both, float64[steps, 2], in turns, so that what else runs disturbs both alike."""
    first()
    second()
    times = np.zeros((steps, 2))
    for row in times:
        for place, run in enumerate((first, second)):
            start = time.perf_counter()
            run()
            row[place] = time.perf_counter() - start
    return times


def compare_steps(settings: RefStarTraining, steps: int) -> tuple[Table, bool]:
    table = Table(title="A step beside its networks alone, ms (median)")
    for column in ("phase", "step", "networks", "ratio", "goal"):
        table.add_column(column, justify="right")
    met = True
    for phase in LOSSES:
        times = side_by_side(step_of(settings, phase), bare_of(settings, phase), steps)
        step, bare = np.median(times, axis=0) * 1e3
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        met &= ratio <= GOAL_STEP
        table.add_row("I" * phase, f"{step:.0f}", f"{bare:.0f}", f"{ratio:.2f}", f"{GOAL_STEP}")
    return table, met


def compare_memory(settings: RefStarTraining) -> tuple[Table, bool]:
    table = Table(title="Phase II: most that lives during a step beside weights, MB")
    table.add_column("")
    for column in ("MB", "ratio", "goal"):
        table.add_column(column, justify="right")

    def most(cycle: float, recompute: bool) -> float:
        changed = replace(
            settings,
            losses=replace(settings.losses, cycle=cycle),
            optimisation=replace(settings.optimisation, recompute=recompute),
        )
        return dry_run(changed, Phase.TWO).activations / 1e6

    one = most(0.0, False)
    table.add_row("one pass", f"{one:.1f}", "1", "")
    again, kept = most(1.5, True), most(1.5, False)
    table.add_row("with the cycle", f"{again:.1f}", f"{again / one:.2f}", f"{GOAL_MEMORY}")
    table.add_row("with the cycle, nothing run again", f"{kept:.1f}", f"{kept / one:.2f}", "")
    return table, again / one <= GOAL_MEMORY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args()
    preset = chosen_settings("tiny")
    settings = replace(preset, data=replace(preset.data, mask=MaskSource.ANNOTATED))
    console, met = Console(), True
    for table, good in (compare_steps(settings, chosen.steps), compare_memory(settings)):
        console.print(table)
        met &= good
    sys.exit(not met)


if __name__ == "__main__":
    main()

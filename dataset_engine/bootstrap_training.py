"""Training of the binary U-Net that proposes masks (paper, "Data Engine")."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from dataset_engine.shards.augmentation import (
    AugmentationSettings,
    PairAugmentation,
    TrainingPair,
    shrink,
)
from dataset_engine.shards.prefetch import prefetch
from dataset_engine.shards.stream import example_at, example_seed
from models.checkpoint import read_state, write_state
from models.inference import predict, stack_images
from models.losses import selection_loss
from models.metrics import Confusion, Scores, summarise, summarise_all_ones
from models.optimisation import autocast, averaged, learning_rate_at
from models.refsel import FirstInput, RefSel, RefSelConfig

STATE_NAME = "training.pt"
MODEL_NAME = "model"


class TrainingPairs(Protocol):
    """Reviewed pairs by number; `first` is the ground truth. Reading one may take a few ms."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> TrainingPair: ...


@dataclass(frozen=True)
class BootstrapSettings:
    """How the bootstrap U-Net is trained; the defaults are what measured best (docs/refsel.md)."""

    seed: int = 0
    steps: int = 480
    batch_size: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    conflict_weight: float = 2.0
    ohem_threshold: float = 0.7
    ema_decay: float = 0.98
    checkpoint_every: int = 50
    workers: int = 1
    cache_bytes: int = 1 << 30
    model: RefSelConfig = field(default_factory=RefSelConfig)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


@dataclass(frozen=True)
class BootstrapReport:
    """What came out: scores on held-out identities, beside those of the all-ones mask."""

    model: Path
    scores: Scores
    all_ones: Scores
    losses: tuple[float, ...]
    resumed_from: int
    encoder_weights_note: str


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: images float32[B, 3, S, S] in [0, 1], masks bool[B, S, S]."""

    first: Tensor
    reference: Tensor
    mask: Tensor
    region: Tensor


def train_bootstrap(
    train: TrainingPairs,
    held_out: TrainingPairs,
    folder: Path,
    settings: BootstrapSettings,
    *,
    start_from: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> BootstrapReport:
    """Train on `train`, score on `held_out` (other identities), and leave the model in `folder`.

    State is kept every `checkpoint_every` steps. Called again with the same settings and data after
    an interruption, it goes on from there and gives the same losses; with other ones it starts anew.

    Args:
        train: reviewed pairs of the training identities.
        held_out: reviewed pairs of identities that are not in `train`.
        folder: where the state and the model go.
        settings: see `BootstrapSettings`.
        start_from: a saved model of an earlier round, whose weights and shape to begin with.
        progress: told how many steps are done.

    Raises:
        ValueError: there is nothing to train on.
        CheckpointError: the kept state or `start_from` is broken.
    """
    if len(train) == 0:
        raise ValueError("no reviewed pairs to train on; review some and run again")
    model = _starting_model(settings, start_from)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).to(memory_format=torch.channels_last)
    ema = averaged(model, settings.ema_decay)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.5, 0.999),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    run = _identify_run(settings, start_from, len(train))
    state_path = folder / STATE_NAME
    losses: list[float] = []
    if state_path.exists():
        state = read_state(state_path)
        if state["run"] == run:
            model.load_state_dict(state["model"])
            ema.load_state_dict(state["ema"])
            optimiser.load_state_dict(state["optimiser"])
            losses = list(state["losses"])
    resumed_from = len(losses)
    progress(resumed_from)

    batches = _batches(train, settings, model.config.working_size, resumed_from)
    model.train()
    for step, batch in enumerate(batches, start=resumed_from):
        rate = learning_rate_at(step, settings.steps, settings.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with autocast(device):
            judgement = model.judge(batch.first.to(device), batch.reference.to(device))
        loss = selection_loss(
            judgement,
            batch.mask.to(device),
            batch.region.to(device),
            threshold=settings.ohem_threshold,
            conflict_weight=settings.conflict_weight,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        ema.update_parameters(model)
        losses.append(float(loss.detach()))
        done = step + 1
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            write_state(
                state_path,
                {
                    "run": run,
                    "model": model.state_dict(),
                    "ema": ema.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "losses": losses,
                },
            )
        progress(done)

    best = cast(RefSel, ema.module.eval())
    best.save_pretrained(folder / MODEL_NAME)
    confusions = score_pairs(best, held_out, batch_size=settings.batch_size)
    return BootstrapReport(
        model=folder / MODEL_NAME,
        scores=summarise(confusions),
        all_ones=summarise_all_ones(confusions),
        losses=tuple(losses),
        resumed_from=resumed_from,
        encoder_weights_note=model.encoder_weights_note,
    )


def score_pairs(model: RefSel, pairs: TrainingPairs, *, batch_size: int = 8) -> list[Confusion]:
    """Compare the model's masks with the reviewed ones, at full size, one `Confusion` a pair."""
    counted: list[Confusion] = []
    loaded: list[TrainingPair] = []
    for index, pair in enumerate(prefetch(pairs.__getitem__, range(len(pairs)), ahead=batch_size)):
        loaded.append(pair)
        if len(loaded) == batch_size or index == len(pairs) - 1:
            p = predict(model, [one.first for one in loaded], [one.reference for one in loaded])
            counted += [
                Confusion.count(kept > model.config.threshold, one.mask, one.region)
                for kept, one in zip(p, loaded, strict=True)
            ]
            loaded = []
    return counted


def _starting_model(settings: BootstrapSettings, start_from: Path | None) -> RefSel:
    if start_from is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return RefSel(replace(settings.model, first_input=FirstInput.GROUND_TRUTH))
    earlier = RefSel.from_pretrained(start_from)
    config = replace(
        earlier.config,
        first_input=FirstInput.GROUND_TRUTH,
        data_version=settings.model.data_version,
    )
    model = RefSel(config, initialise_encoder=False)
    model.load_state_dict(earlier.state_dict())
    return model


def _batches(
    train: TrainingPairs, settings: BootstrapSettings, side: int | None, start: int
) -> Iterator[Batch]:
    """Batches of the steps from `start` on; each is a function of the settings and its number."""
    cache: dict[int, TrainingPair] = {}
    cached_bytes = 0
    augmentation = PairAugmentation(settings.augmentation)

    def small(index: int) -> TrainingPair:
        nonlocal cached_bytes
        if index in cache:
            return cache[index]
        pair = train[index]
        pair = pair if side is None else shrink(pair, side)
        cached_bytes += 8 * pair.mask.size
        if cached_bytes <= settings.cache_bytes:
            cache[index] = pair
        return pair

    def load(position: int) -> TrainingPair:
        epoch, index = example_at(position, len(train), settings.seed)
        seed = example_seed(settings.seed, epoch, index)
        return augmentation.move_and_light(augmentation.mix(small(index), seed), seed)

    size = settings.batch_size
    positions = range(start * size, settings.steps * size)
    gathered: list[TrainingPair] = []
    for pair in prefetch(load, positions, workers=settings.workers, ahead=2 * size):
        gathered.append(pair)
        if len(gathered) == size:
            yield Batch(
                stack_images([one.first for one in gathered]),
                stack_images([one.reference for one in gathered]),
                torch.from_numpy(np.stack([one.mask for one in gathered])),
                torch.from_numpy(np.stack([one.region for one in gathered])),
            )
            gathered = []


def _identify_run(settings: BootstrapSettings, start_from: Path | None, pairs: int) -> str:
    """What has to be equal for a kept state to be gone on with, as JSON."""
    described = dataclasses.asdict(settings)
    for unimportant in ("checkpoint_every", "workers", "cache_bytes"):
        del described[unimportant]
    # the end of the path alone: a home may be moved between a stop and the next start
    origin = start_from.parts[-2:] if start_from else ()
    described |= {"start_from": origin, "pairs": pairs}
    return json.dumps(described, sort_keys=True)

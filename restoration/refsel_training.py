"""Training of RefSel (paper, "Reference Selection Module", Eq. 1 and 2)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from dataset_engine.degradation import DegradationSettings, preset
from dataset_engine.shards.prefetch import prefetch
from dataset_engine.shards.stream import example_at
from models.checkpoint import read_state, write_state
from models.losses import selection_loss
from models.optimisation import averaged, bf16_supported, learning_rate_at
from models.refsel import FirstInput, Judgement, RefSel, detail_target
from restoration.refsel_board import Board, draw_first
from restoration.refsel_config import RefSelTraining
from restoration.refsel_data import Batch, Degraded, ExampleMaker, Samples, stack_examples
from restoration.refsel_evaluation import Evaluation, evaluate

STATE_NAME = "training.pt"
BEST_NAME = "best"
LAST_NAME = "last"
BOARD_NAME = "tensorboard"


@dataclass(frozen=True)
class RefSelReport:
    """What came out; `evaluation` is of the best model at its calibrated threshold."""

    best: Path
    last: Path
    evaluation: Evaluation
    losses: tuple[float, ...]
    resumed_from: int
    note: str


def train_refsel(
    train: Samples,
    validation: Samples,
    folder: Path,
    settings: RefSelTraining,
    *,
    bootstrap: Path | None,
    data_version: str,
    progress: Callable[[int], None] = lambda _: None,
) -> RefSelReport:
    """Train RefSel on degraded triplets, starting from the data engine's U-Net.

    Everything random is a function of (seed, epoch, number of the triplet), and the state is kept
    every `checkpoint_every` steps: a killed run that is started again gives the losses of one that
    was not. With other settings or other data it starts anew.

    Args:
        train: triplets of the training identities.
        validation: triplets of other identities; they choose the best model and its threshold.
        folder: gets `best/`, `last/`, `tensorboard/` and the training state.
        settings: see `RefSelTraining`.
        bootstrap: the folder of the bootstrap U-Net; None starts from `settings.model`.
        data_version: names the data in the saved models.
        progress: told how many steps are done.

    Raises:
        ValueError: a split is empty, or the degradation preset is unknown.
        CheckpointError: the kept state or the bootstrap model is broken.
    """
    if not len(train) or not len(validation):
        raise ValueError(
            f"{len(train)} training and {len(validation)} validation triplets: RefSel needs some "
            "of both; review more pairs or choose other splits, and export again"
        )
    degradation = preset(settings.degradation)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if bf16_supported(device) else "no",
        gradient_accumulation_steps=settings.accumulate,
    )
    raw = _starting_model(settings, bootstrap, data_version).to(accelerator.device)
    raw.to(memory_format=torch.channels_last)
    ema = averaged(raw, settings.ema_decay)
    model, optimiser = accelerator.prepare(_Judging(raw), _optimiser(raw, settings))
    run = _identify_run(settings, bootstrap, data_version, len(train))
    kept = _Kept(folder / STATE_NAME, run, raw, ema, optimiser)
    kept.restore()
    start = len(kept.losses)
    progress(start)
    board = Board(folder / BOARD_NAME, start)
    maker = ExampleMaker(
        train,
        degradation,
        settings.augmentation,
        raw.config.working_size,
        seed=settings.seed,
        variants=settings.variants,
        kept_bytes=round(settings.kept_gigabytes * 1e9),
    )
    batches = _batches(maker, len(train), settings, start, accelerator)

    for step in range(start, settings.steps):
        model.train()
        rate = learning_rate_at(step, settings.steps, settings.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        step_loss = 0.0
        for _ in range(settings.accumulate):
            batch = next(batches)
            with accelerator.accumulate(model):
                loss = _loss(model(batch.first, batch.reference), batch, settings)
                accelerator.backward(loss)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            step_loss += float(loss.detach()) / settings.accumulate
        ema.update_parameters(raw)
        kept.losses.append(step_loss)
        done = step + 1
        last = done == settings.steps
        if accelerator.is_main_process:
            board.training(done, step_loss, rate)
            if last or done % settings.validate_every == 0:
                current = cast(RefSel, ema.module.eval())
                found = evaluate(current, validation, degradation, batch_size=settings.batch_size)
                board.validation(done, found)
                board.pictures(
                    done, draw_first(current, validation, degradation, settings.pictures)
                )
                if _model_score(found) > kept.best_score:
                    kept.best_score = _model_score(found)
                    _with_threshold(current, found.best_threshold).save_pretrained(
                        folder / BEST_NAME
                    )
            if last or done % settings.checkpoint_every == 0:
                kept.write()
        progress(done)

    board.close()
    cast(RefSel, ema.module.eval()).save_pretrained(folder / LAST_NAME)
    return RefSelReport(
        best=folder / BEST_NAME,
        last=folder / LAST_NAME,
        evaluation=_final_evaluation(folder, validation, degradation, settings, device),
        losses=tuple(kept.losses),
        resumed_from=start,
        note=raw.encoder_weights_note,
    )


class _Kept:
    """What a run must keep to go on exactly where it was."""

    def __init__(
        self,
        path: Path,
        run: str,
        model: nn.Module,
        ema: AveragedModel,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self._path, self._run = path, run
        self._parts: dict[str, nn.Module | torch.optim.Optimizer] = {
            "model": model,
            "ema": ema,
            "optimiser": optimiser,
        }
        self.losses: list[float] = []
        self.best_score = -1.0

    def restore(self) -> None:
        """Take the kept state if there is one of this very run."""
        if not self._path.exists():
            return
        state = read_state(self._path)
        if state["run"] == self._run:
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            self.losses, self.best_score = list(state["losses"]), float(state["best_score"])

    def write(self) -> None:
        """Replace the kept state whole."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        numbers = {"losses": self.losses, "best_score": self.best_score}
        write_state(self._path, {"run": self._run, **state, **numbers})


def _starting_model(settings: RefSelTraining, bootstrap: Path | None, data_version: str) -> RefSel:
    if bootstrap is None:
        config = replace(settings.model, first_input=FirstInput.DEGRADED, data_version=data_version)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return RefSel(config)
    start = RefSel.from_pretrained(bootstrap)
    config = replace(start.config, first_input=FirstInput.DEGRADED, data_version=data_version)
    model = RefSel(config, initialise_encoder=False)
    model.load_state_dict(start.state_dict())
    model.encoder_weights_note = f"starts from the bootstrap U-Net {bootstrap}"
    return model


def _optimiser(model: RefSel, settings: RefSelTraining) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )


class _Judging(nn.Module):
    """RefSel with all that it says as its output, which accelerate wraps for several processes."""

    def __init__(self, refsel: RefSel) -> None:
        super().__init__()
        self.refsel = refsel

    def forward(self, first: Tensor, reference: Tensor) -> Judgement:
        return self.refsel.judge(first, reference)


def _loss(judgement: Judgement, batch: Batch, settings: RefSelTraining) -> Tensor:
    """Eq. 2 and the face region's loss, and how far the estimate of the kept detail is off."""
    chosen = selection_loss(
        judgement,
        batch.mask,
        batch.region,
        threshold=settings.ohem_threshold,
        min_kept=settings.ohem_min_kept,
        conflict_weight=settings.conflict_weight,
    )
    wanted = detail_target(batch.detail_kept)
    detail = functional.smooth_l1_loss(judgement.detail, wanted, beta=0.1)
    return chosen + settings.detail_weight * detail


def _batches(
    maker: ExampleMaker,
    count: int,
    settings: RefSelTraining,
    start: int,
    accelerator: Accelerator,
) -> Iterator[Batch]:
    """Batches from step `start` on, each a function of the settings, its number and the process."""
    size, world = settings.batch_size, accelerator.num_processes
    first, end = start * settings.accumulate, settings.steps * settings.accumulate
    positions = (
        (number * world + accelerator.process_index) * size + place
        for number in range(first, end)
        for place in range(size)
    )

    a_step = size * world * settings.accumulate

    def load(position: int) -> Degraded:
        epoch, index = example_at(position, count, settings.seed)
        clean = 1 - position / (a_step * settings.clean_steps) if settings.clean_steps else 0.0
        return maker(index, epoch, clean)

    gathered: list[Degraded] = []
    for example in prefetch(load, positions, workers=settings.workers, ahead=2 * size):
        gathered.append(example)
        if len(gathered) == size:
            yield stack_examples(gathered, accelerator.device)
            gathered = []


def _model_score(evaluation: Evaluation) -> float:
    """What "best" means: conflict IoU, which neither an all-ones nor an all-zeros mask can win.

    Without any conflict in the validation split it is the IoU of the consistent class.
    """
    scores = evaluation.everything.scores
    return scores.iou if math.isnan(scores.conflict_iou) else scores.conflict_iou


def _with_threshold(model: RefSel, threshold: float) -> RefSel:
    calibrated = RefSel(replace(model.config, threshold=threshold), initialise_encoder=False)
    calibrated.load_state_dict(model.state_dict())
    return calibrated


def _final_evaluation(
    folder: Path,
    validation: Samples,
    degradation: DegradationSettings,
    settings: RefSelTraining,
    device: torch.device,
) -> Evaluation:
    best = RefSel.from_pretrained(folder / BEST_NAME).to(device)
    return evaluate(best, validation, degradation, batch_size=settings.batch_size)


def _identify_run(
    settings: RefSelTraining, bootstrap: Path | None, data_version: str, triplets: int
) -> str:
    """What has to be equal for a kept state to be gone on with, as JSON."""
    described = dataclasses.asdict(settings)
    for unimportant in ("checkpoint_every", "workers", "pictures", "kept_gigabytes"):
        del described[unimportant]
    # the end of the path alone: a home may be moved between a stop and the next start
    origin = bootstrap.parts[-2:] if bootstrap else ()
    described |= {"bootstrap": origin, "data": data_version, "triplets": triplets}
    return json.dumps(described, sort_keys=True)

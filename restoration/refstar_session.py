"""What the three phases share: processes, optimisers, averages, state, TensorBoard, best model.

A phase is a loop over `steps` and `batches` that computes a loss and calls `learn`,
`teach_discriminator` and `finish`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import Tensor, nn

from dataset_engine.shards.files import write_whole
from dataset_engine.shards.stream import example_seed
from models.decoupled_attention import is_reference_output
from models.discriminator import discriminator_loss
from models.optimisation import bf16_supported, learning_rate_at
from models.restorer import Phase
from restoration.losses import Loss
from restoration.own_reference import OwnReferences
from restoration.refstar_average import AveragedWeights
from restoration.refstar_config import Rate, RefStarTraining
from restoration.refstar_data import Batch, FaceMaker, MakeFace, training_batches
from restoration.refstar_faces import Faces
from restoration.refstar_networks import DISCRIMINATOR_NAME, Networks
from restoration.refstar_state import States
from restoration.refstar_validation import Board, Scores, Validation, terms_of

BEST_NAME = "best"
LAST_NAME = "last"
BOARD_NAME = "tensorboard"


@dataclass(frozen=True)
class Place:
    """Where a phase is kept, and how it goes on."""

    folder: Path
    """Gets `best/`, `last/`, `states/`, `tensorboard/` and the discriminator."""
    resume: bool = False
    """Go on from the newest state."""
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names what the phase began with; a state is gone on with only where it is the same."""


class Session:
    """One phase of one run."""

    def __init__(
        self,
        settings: RefStarTraining,
        phase: Phase,
        networks: Networks,
        faces: Faces,
        place: Place,
        *,
        maker: MakeFace | None = None,
        progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    ) -> None:
        """Let exactly the phase's parameters learn, and go back to the newest state if asked to.

        Args:
            settings: see `RefStarTraining`.
            phase: which phase it is.
            networks: what it begins with; they are moved and trained in place.
            faces: what it learns from and is measured on.
            place: where it is kept.
            maker: makes the training examples; one of its own otherwise.
            progress: told how many steps are done, and of how many.

        Raises:
            ValueError: there are states that nobody asked to go on with, or of another run.
            CheckpointError: the state is broken.
        """
        self.settings, self.networks = settings, networks
        self._phase, self._place = phase, place
        self._training = settings.phase(phase)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bf16 = settings.optimisation.bf16 and bf16_supported(device)
        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if bf16 else "no",
            gradient_accumulation_steps=self._training.accumulate,
        )
        self.device = self._accelerator.device
        main = self._accelerator.is_main_process
        self._progress = progress if main else lambda _done, _total: None
        networks.to(self.device)
        learner, self._parameters = learner_of(networks, phase)
        self._discriminator = networks.discriminator
        optimiser = self._adam(self._parameters)
        self.model, self._optimiser = self._accelerator.prepare(learner, optimiser)
        stateful: dict[str, Any] = {"optimiser": self._optimiser}
        if self._discriminator is not None:
            own = self._adam(dict(self._discriminator.named_parameters()))
            self._judging, self._own_optimiser = self._accelerator.prepare(self._discriminator, own)
            stateful |= {
                "discriminator": self._discriminator,
                "discriminator_optimiser": self._own_optimiser,
            }
        self._average = AveragedWeights(self._parameters, settings.optimisation.ema_decay)
        self._states = States(
            place.folder,
            self._identity(faces),
            self._training.keep,
            parameters=self._parameters,
            average=self._average,
            stateful=stateful,
        )
        self.start = self._states.begin(place.resume)
        self._faces, self._maker = faces, maker
        self._validation = Validation(faces.validation, settings, phase, self.device)
        self._board: Board | None = None
        self._seen: list[Loss] = []
        self._source = self._all_batches()

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss of every step so far, those before a stop included."""
        return tuple(self._states.losses)

    def steps(self) -> Iterator[int]:
        """The numbers of the steps that are still to be done, each with its learning rate set."""
        self._progress(self.start, self._training.steps)
        if self._accelerator.is_main_process:
            self._board = Board(self._place.folder / BOARD_NAME, self.start)
        for step in range(self.start, self._training.steps):
            rate = self._rate(step)
            for group in self._optimiser.param_groups:
                group["lr"] = rate * group["times"]
            yield step

    def batches(self) -> Iterator[Batch]:
        """The batches of one step, whose gradients are accumulated."""
        models = [self.model] + ([] if self._discriminator is None else [self._judging])
        for _ in range(self._training.accumulate):
            with self._accelerator.accumulate(*models):
                yield next(self._source)

    def autocast(self) -> AbstractContextManager[None]:
        """Forward passes in bfloat16, where that was asked for and the device has it."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def judge(self, restored: Tensor) -> Tensor | None:
        """The discriminator's logits for the generator's loss; its own parameters get no gradient.

        Args:
            restored: float[B, 3, H, W], near [0, 1].

        Returns:
            float[B, 1, H, W], or None where there is no discriminator.
        """
        if self._discriminator is None:
            return None
        self._discriminator.eval().requires_grad_(False)
        logits: Tensor = self._discriminator(restored.float())
        return logits

    def learn(self, loss: Loss) -> None:
        """Differentiate a loss and, with a step's last batch, take the step."""
        self._seen.append(loss)
        self._accelerator.backward(loss.total)
        if self._accelerator.sync_gradients:
            self._accelerator.clip_grad_norm_(
                list(self._parameters.values()), self.settings.optimisation.clip
            )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def teach_discriminator(self, truth: Tensor, restored: Tensor) -> None:
        """The discriminator's own step on the same faces; nothing without one.

        Args:
            truth: float[B, 3, H, W] in [0, 1].
            restored: the same, near [0, 1]; its gradient is cut off.
        """
        if self._discriminator is None:
            return
        self._discriminator.train().requires_grad_(True)
        with self.autocast():
            # Both in one pass: the spectral norms are estimated a little further in each.
            logits = self._judging(torch.cat([truth, restored.detach().float()]))
            loss = discriminator_loss(*logits.chunk(2))
        self._accelerator.backward(loss)
        self._own_optimiser.step()
        self._own_optimiser.zero_grad(set_to_none=True)

    def finish(self, step: int) -> None:
        """Average the weights; log, validate and keep the state when it is time to."""
        done = step + 1
        last = done == self._training.steps
        self._average.update(done)
        terms = self._terms()
        self._states.losses.append(terms["total"])
        if self._board is not None:
            self._board.training(done, terms, self._rate(step))
            if last or done % self._training.validate_every == 0:
                self._validate(done)
            if last or done % self._training.checkpoint_every == 0:
                self._states.write()
        self._progress(done, self._training.steps)

    def close(self) -> Scores | None:
        """Save the last model and the discriminator; scores of the best one, on the main process."""
        scores = None
        if self._board is not None:
            self._board.close()
            pipeline, folder = self.networks.pipeline, self._place.folder
            with self._average.in_place():
                scores = self._validation.measure(pipeline)
                if self._states.best == -float("inf"):
                    pipeline.save_pretrained(folder / BEST_NAME)
                pipeline.save_pretrained(folder / LAST_NAME)
            if self._discriminator is not None:
                state = {
                    n: t.contiguous().cpu() for n, t in self._discriminator.state_dict().items()
                }
                write_whole(folder / DISCRIMINATOR_NAME, save(state))
        self._accelerator.wait_for_everyone()
        return scores

    def _validate(self, done: int) -> None:
        assert self._board is not None  # noqa: S101 - the main process has one
        pipeline = self.networks.pipeline
        with self._average.in_place():
            scores = self._validation.measure(pipeline)
            picture = self._validation.picture(pipeline, self.settings.pictures)
            if scores.full > self._states.best:
                self._states.best = scores.full
                pipeline.save_pretrained(self._place.folder / BEST_NAME)
        self._board.validation(done, scores, picture)

    def _terms(self) -> dict[str, float]:
        terms = terms_of(self._seen)
        self._seen = []
        if self._accelerator.num_processes == 1:
            return terms
        values = torch.tensor(list(terms.values()), dtype=torch.float64, device=self.device)
        means = self._accelerator.reduce(values, reduction="mean").tolist()
        return dict(zip(terms, means, strict=True))

    @property
    def _faces_a_step(self) -> int:
        """Of all processes together."""
        training, processes = self._training, int(self._accelerator.num_processes)
        return training.batch_size * training.accumulate * processes

    def _all_batches(self) -> Iterator[Batch]:
        training, processes = self._training, self._accelerator.num_processes
        first, end = self.start * training.accumulate, training.steps * training.accumulate
        data, seed = self.settings.data, self.settings.seed
        if self._phase is not Phase.ONE:
            data = dataclasses.replace(data, clean=0.0)
        own = data.own_references * self._faces_a_step if self._phase is Phase.TWO else 0
        batches = training_batches(
            self._maker or FaceMaker(self._faces.train, data, seed),
            len(self._faces.train),
            seed,
            range(first, end),
            training.batch_size,
            process=self._accelerator.process_index,
            processes=processes,
            workers=data.workers,
            device=self.device,
            practise=OwnReferences(own, seed) if own else None,
        )
        for number, batch in enumerate(batches, start=first):
            # Should a network draw anything (dropout), that is a function of the step as well.
            torch.manual_seed(example_seed(seed, number, self._accelerator.process_index))
            yield batch

    def _rate(self, step: int) -> float:
        training = self._training
        if training.rate is Rate.COSINE:
            return learning_rate_at(step, training.steps, training.learning_rate)
        return training.learning_rate

    def _adam(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.AdamW:
        shared = self.settings.optimisation
        outputs = [p for name, p in parameters.items() if is_reference_output(name)]
        others = [p for name, p in parameters.items() if not is_reference_output(name)]
        groups = [
            {"params": others, "times": 1.0},
            {"params": outputs, "times": shared.output_rate},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self._training.learning_rate,
            betas=(shared.beta1, shared.beta2),
            weight_decay=shared.weight_decay,
            fused=True,
        )

    def _identity(self, faces: Faces) -> dict[str, object]:
        """What a step depends on, beside its number."""
        settings, training = self.settings, self._training
        described = dataclasses.asdict(settings)
        for other in ("phase_one", "phase_two", "phase_three", "pictures", "weights"):
            del described[other]
        del described["data"]["workers"]
        described |= {
            "phase": int(self._phase),
            "faces a step": self._faces_a_step,
            "learning_rate": training.learning_rate,
            "rate": training.rate,
            # A constant rate may go on for longer than was planned.
            "steps": training.steps if training.rate is Rate.COSINE else None,
            "faces": [faces.version, len(faces.train)],
            "origin": dict(self._place.origin),
        }
        return described


def learner_of(networks: Networks, phase: Phase) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The module that learns, and which of its parameters do; nothing else gets a gradient."""
    pipeline = networks.pipeline
    pipeline.restorer.prepare(phase)
    if pipeline.refsel is not None:
        # Batch statistics stay those of RefSel's own training: batches here are small.
        pipeline.refsel.eval().requires_grad_(phase is Phase.THREE)
    if phase is not Phase.THREE:
        return pipeline.restorer, pipeline.restorer.trainable_parameters(phase)
    if pipeline.refsel is None:
        raise ValueError("Phase III trains RefSel; give one")
    return pipeline.refsel, dict(pipeline.refsel.named_parameters())

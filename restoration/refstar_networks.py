"""The networks that a phase begins with: from published weights, or from the phase before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.arc2face import Arc2FacePrompt, plain_prompt, prompt_tokens
from models.backbones import open_text_encoder, open_unet, open_vae
from models.discriminator import UNetDiscriminator
from models.identity import ArcFace, OnnxArcFace
from models.iresnet import open_iresnet
from models.perceptual import PerceptualDistance, open_vgg19
from models.pipeline import RefStarPipeline
from models.prompts import PersonPrompt, PlainPrompt
from models.refsel import RefSel
from models.restorer import Phase, Restorer
from models.weights_file import fill, read_tensors
from restoration.losses import LossNetworks
from restoration.refstar_config import Backbone, MaskSource, RefStarTraining

DISCRIMINATOR_NAME = "discriminator.safetensors"
Judge = Callable[[Tensor], Tensor | None]
"""I_out float[B, 3, H, W] to the discriminator's logits float[B, 1, H, W]; None without one."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Everything that a phase runs, on the CPU in float32."""

    pipeline: RefStarPipeline
    """Restorer, prompt and, from Phase II on, RefSel unless annotated masks take its place."""
    losses: LossNetworks
    discriminator: UNetDiscriminator | None
    """None where the adversarial loss has no weight."""

    def to(self, device: torch.device) -> None:
        """Move all of them."""
        self.pipeline.to(device)
        for network in (self.losses.perceptual, self.losses.identity, self.discriminator):
            if isinstance(network, nn.Module):
                network.to(device)


def open_networks(
    settings: RefStarTraining,
    phase: Phase,
    *,
    weights: Path,
    start: Path | None = None,
    refsel: Path | None = None,
) -> Networks:
    """Build a phase's networks; the same settings give the same bits.

    Args:
        settings: see `RefStarTraining`.
        phase: which begins.
        weights: folder of published weights; a tiny backbone without loss networks needs none.
        start: the folder of the phase before, with `best/`; needed from Phase II on.
        refsel: a trained RefSel; None where masks are annotated, or where `start` has one.

    Raises:
        CheckpointError: a file is missing or broken, or of another network.
        ValueError: `start` or `refsel` is missing, or `start` is of other settings.
    """
    with _seeded(settings.seed):
        pipeline = _first(settings, weights) if start is None else _next(settings, phase, start)
        if start is None and phase is not Phase.ONE:
            raise ValueError(f"Phase {phase} starts from the phase before; train Phase {phase - 1}")
        if phase is not Phase.ONE:
            pipeline.restorer.add_reference()
            _choose_refsel(pipeline, settings, phase, refsel)
        discriminator = None
        if settings.losses.in_ground_truth.adversarial:
            discriminator = UNetDiscriminator(settings.discriminator_width)
            path = None if start is None else start / DISCRIMINATOR_NAME
            if path is not None and path.is_file():
                fill(discriminator, read_tensors(path), path)
    if settings.optimisation.checkpointing:
        pipeline.restorer.enable_gradient_checkpointing()
    return Networks(pipeline, _open_losses(settings, phase, weights), discriminator)


def _first(settings: RefStarTraining, weights: Path) -> RefStarPipeline:
    paths = settings.weights
    if settings.backbone is Backbone.TINY:
        tiny = settings.tiny
        restorer = Restorer(tiny.unet(), tiny.autoencoder(), settings.restorer)
        return RefStarPipeline(restorer, PlainPrompt(tiny.prompt()))
    # What is opened first fails first: the small files before the large ones.
    text_encoder = open_text_encoder(weights / paths.text_encoder)
    prompt: PlainPrompt | PersonPrompt
    if settings.backbone is Backbone.ARC2FACE:
        tokens, position = prompt_tokens(weights / paths.tokenizer)
        arcface = OnnxArcFace(weights / paths.arcface)
        prompt = PersonPrompt(Arc2FacePrompt(text_encoder, tokens, position), arcface)
    else:
        prompt = PlainPrompt(plain_prompt(text_encoder, weights / paths.tokenizer, settings.prompt))
    vae, unet = open_vae(weights / paths.vae), open_unet(weights / paths.unet)
    return RefStarPipeline(Restorer(unet, vae, settings.restorer), prompt)


def _next(settings: RefStarTraining, phase: Phase, start: Path) -> RefStarPipeline:
    pipeline = RefStarPipeline.from_pretrained(start / "best")
    config = pipeline.restorer.config
    if phase is Phase.TWO:
        # Phase I has no reference, so how one is read may be chosen now.
        config = replace(config, attention=settings.restorer.attention)
    if config != settings.restorer:
        raise ValueError(
            f"{start / 'best'} was trained with other settings of the restorer; give the "
            "configuration that it was trained with"
        )
    pipeline.restorer.config = config
    return pipeline


def _choose_refsel(
    pipeline: RefStarPipeline, settings: RefStarTraining, phase: Phase, folder: Path | None
) -> None:
    needed = phase is Phase.THREE or settings.data.mask is MaskSource.REFSEL
    if folder is not None and needed:
        pipeline.refsel = RefSel.from_pretrained(folder)
    if needed and pipeline.refsel is None:
        raise ValueError(
            f"Phase {phase} needs a trained RefSel; give its folder (engine train-refsel makes one)"
        )


def _open_losses(settings: RefStarTraining, phase: Phase, weights: Path) -> LossNetworks:
    used = used_losses(settings, phase)
    paths = settings.weights
    perceptual = identity = None
    if "perceptual" in used:
        perceptual = PerceptualDistance(open_vgg19(weights / paths.vgg19))
    if "identity" in used:
        identity = ArcFace(open_iresnet(weights / paths.identity, paths.identity_depth))
    return LossNetworks(perceptual, identity)


def used_losses(settings: RefStarTraining, phase: Phase) -> set[str]:
    """Names of the loss terms with a weight in this phase; the cycle is of Phase II alone."""
    losses = settings.losses
    parts = [vars(losses.in_ground_truth)]
    if phase is Phase.TWO and losses.cycle:
        parts.append(vars(losses.in_cycle))
    return {name for part in parts for name, weight in part.items() if weight}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

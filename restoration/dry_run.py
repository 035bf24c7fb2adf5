"""What a phase would cost, without weights and without memory: everything runs on the meta device.

The loss is the one that is trained, from the same functions. Activations are the largest sum of live
tensors during the forward and the backward pass, so that checkpointing counts as it works.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.autoencoder import LatentAutoencoder
from models.backbones import clip_text_encoder, stable_diffusion_unet, stable_diffusion_vae
from models.discriminator import UNetDiscriminator, discriminator_loss
from models.identity import ArcFace
from models.iresnet import IResNet
from models.perceptual import VGG19, PerceptualDistance
from models.pipeline import RefStarPipeline
from models.prompts import PlainPrompt
from models.refsel import FirstInput, RefSel, RefSelConfig
from models.restorer import Phase, Restorer
from restoration.losses import LossNetworks
from restoration.refstar_config import Backbone, MaskSource, RefStarTraining
from restoration.refstar_data import Batch
from restoration.refstar_networks import Networks, used_losses
from restoration.refstar_phase_one import phase_one_loss
from restoration.refstar_phase_three import phase_three_loss
from restoration.refstar_phase_two import phase_two_loss
from restoration.refstar_session import learner_of

LOSSES: Final = {
    Phase.ONE: phase_one_loss,
    Phase.TWO: phase_two_loss,
    Phase.THREE: phase_three_loss,
}
FLOAT: Final = 4
HALF: Final = 2
TOKENS: Final = (77, 768)
"""Length and width of Stable Diffusion 1.x's prompts."""


@dataclass(frozen=True)
class Part:
    """One network's parameters."""

    name: str
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Cost:
    """What one process of a phase needs; all sizes in bytes."""

    phase: Phase
    parts: tuple[Part, ...]
    weights: int
    """Of all parts in float32."""
    gradients: int
    optimiser: int
    """Both of Adam's moments, of restorer or RefSel and of the discriminator."""
    average: int
    copies: int
    """What autocast keeps in bfloat16 of the weights that learn."""
    activations: int
    """Largest sum of live tensors beside all that."""
    steps: int
    faces_a_step: int
    operations: int
    """Floating-point operations of a step: forward, backward, discriminator, all accumulated batches."""

    @property
    def memory(self) -> int:
        """The sum of all sizes."""
        return (
            self.weights
            + self.gradients
            + self.optimiser
            + self.average
            + self.copies
            + self.activations
        )

    @property
    def trainable(self) -> int:
        """Parameters that learn, the discriminator's included."""
        return sum(part.trainable for part in self.parts)


def dry_run(settings: RefStarTraining, phase: Phase) -> Cost:
    """Build a phase on the meta device, run one batch there, and add up.

    RefSel is counted with its default settings, since its folder says what it really is. The
    prompt's text encoder runs without a gradient and is counted by its weights alone.
    """
    training, bf16 = settings.phase(phase), settings.optimisation.bf16
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.device("meta"):
        networks, text_encoder = _networks(settings, phase)
        networks.pipeline.restorer.to(dtype)
        networks.pipeline.prompt.to(dtype)
        learner, learning = learner_of(networks, phase)
        batch = _batch(training.batch_size, settings.data.size, dtype)
        live = _Live()
        with _fused_attention(), FlopCounterMode(display=False) as counter:
            with live:
                loss, restored = LOSSES[phase](
                    learner, batch, networks, settings, _judge(networks.discriminator)
                )
                torch.autograd.backward([loss.total])
            kept = sum(p.numel() * p.element_size() for p in learning.values())
            _teach(networks.discriminator, batch.truth, restored)
    parts = _parts(networks, text_encoder)
    own = sum(p.numel() for p in learning.values())
    judging = _count(networks.discriminator)
    return Cost(
        phase,
        parts,
        weights=FLOAT * sum(part.parameters for part in parts),
        gradients=FLOAT * (own + judging),
        optimiser=2 * FLOAT * (own + judging),
        average=FLOAT * own,
        copies=HALF * own if bf16 else 0,
        activations=max(0, live.peak - kept),
        steps=training.steps,
        faces_a_step=training.batch_size * training.accumulate,
        operations=counter.get_total_flops() * training.accumulate,
    )


def _networks(settings: RefStarTraining, phase: Phase) -> tuple[Networks, nn.Module | None]:
    text_encoder = None
    if settings.backbone is Backbone.TINY:
        tiny = settings.tiny
        restorer = Restorer(tiny.unet(), tiny.autoencoder(), settings.restorer)
        prompt = PlainPrompt(tiny.prompt())
    else:
        vae = LatentAutoencoder(stable_diffusion_vae())
        restorer = Restorer(stable_diffusion_unet(), vae, settings.restorer)
        prompt = PlainPrompt(torch.empty(TOKENS))
        text_encoder = clip_text_encoder().requires_grad_(False)
    refsel = None
    if phase is not Phase.ONE:
        restorer.add_reference()
        if phase is Phase.THREE or settings.data.mask is MaskSource.REFSEL:
            refsel = RefSel(replace(RefSelConfig(), first_input=FirstInput.DEGRADED))
    if settings.optimisation.checkpointing:
        restorer.enable_gradient_checkpointing()
    used = used_losses(settings, phase)
    losses = LossNetworks(
        PerceptualDistance(VGG19()) if "perceptual" in used else None,
        ArcFace(IResNet(settings.weights.identity_depth)) if "identity" in used else None,
    )
    discriminator = None
    if settings.losses.in_ground_truth.adversarial:
        discriminator = UNetDiscriminator(settings.discriminator_width)
    return Networks(RefStarPipeline(restorer, prompt, refsel), losses, discriminator), text_encoder


def _batch(faces: int, size: int, dtype: torch.dtype) -> Batch:
    images = (torch.empty(faces, 3, size, size, dtype=dtype) for _ in range(4))
    masks = (torch.empty(faces, 1, size, size, dtype=dtype) for _ in range(2))
    return Batch(*images, *masks)


def _judge(discriminator: nn.Module | None) -> Callable[[Tensor], Tensor | None]:
    if discriminator is None:
        return lambda _restored: None
    network = discriminator

    def judge(restored: Tensor) -> Tensor:
        logits: Tensor = network.eval().requires_grad_(False)(restored.float())
        return logits

    return judge


def _teach(discriminator: nn.Module | None, truth: Tensor, restored: Tensor) -> None:
    if discriminator is not None:
        discriminator.train().requires_grad_(True)
        logits = discriminator(torch.cat([truth, restored.detach()]).float())
        torch.autograd.backward([discriminator_loss(*logits.chunk(2))])


def _parts(networks: Networks, text_encoder: nn.Module | None) -> tuple[Part, ...]:
    pipeline = networks.pipeline
    named: dict[str, object] = {
        "UNet and its adapters": pipeline.restorer.unet,
        "autoencoder and its adapters": pipeline.restorer.autoencoder,
        "ReferenceNet": pipeline.restorer.reference_net,
        "reference attention": pipeline.restorer.reference_attention,
        "text encoder": text_encoder,
        "RefSel": pipeline.refsel,
        "VGG19": networks.losses.perceptual,
        "ArcFace (loss)": networks.losses.identity,
        "discriminator": networks.discriminator,
    }
    return tuple(
        Part(name, _count(module), sum(p.numel() for p in module.parameters() if p.requires_grad))
        for name, module in named.items()
        if isinstance(module, nn.Module) and _count(module)
    )


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own is untyped
    """The largest sum of bytes of tensors that were made under it and lived at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        # A view of a weight is no new memory.
        given = {one.untyped_storage()._cdata for one in _tensors((args, kwargs))}
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            number = storage._cdata
            if number not in given and number not in self._sizes:
                self._sizes[number] = storage.nbytes()
                weakref.finalize(storage, self._sizes.pop, number, None)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return out


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


class _Fused(torch.autograd.Function):
    """Attention that keeps what a fused kernel keeps, and multiplies as often."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(query, key, value, bias)
        return (query @ key.mT) @ value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, bias = ctx.saved_tensors
        weights = query @ key.mT
        logits = gradients[0] @ value.mT
        by_bias = logits if bias is not None and ctx.needs_input_grad[3] else None
        return logits @ key, logits.mT @ query, weights.mT @ gradients[0], by_bias


@contextmanager
def _fused_attention() -> Iterator[None]:
    """The meta device has no fused kernel and would count attention's whole matrices as kept.

    A torch function mode would not do: it is off while checkpointing runs a block again.
    """
    plain = functional.scaled_dot_product_attention

    def fused(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: object
    ) -> Tensor:
        out: Tensor = _Fused.apply(query, key, value, attn_mask)
        return out

    functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def cost_table(costs: list[Cost]) -> Table:
    """A column for each phase: millions of parameters (those that learn first), then sizes."""
    table = Table(title="what training would cost, for each process")
    table.add_column("")
    for cost in costs:
        table.add_column(f"Phase {'I' * cost.phase}", justify="right")
    names = dict.fromkeys(itertools.chain(*((p.name for p in cost.parts) for cost in costs)))
    for name in names:
        found = [next((p for p in cost.parts if p.name == name), None) for cost in costs]
        cells = (
            "" if p is None else f"{p.trainable / 1e6:.2f} of {p.parameters / 1e6:.2f} M"
            for p in found
        )
        table.add_row(name, *cells)
    table.add_section()
    for label, field in (
        ("weights", "weights"),
        ("gradients", "gradients"),
        ("optimisers", "optimiser"),
        ("averaged weights", "average"),
        ("bfloat16 copies", "copies"),
        ("activations, at most about", "activations"),
        ("memory", "memory"),
    ):
        table.add_row(label, *(f"{getattr(cost, field) / 1e9:.2f} GB" for cost in costs))
    table.add_section()
    table.add_row("steps", *(f"{cost.steps:,}" for cost in costs))
    table.add_row("faces a step", *(str(cost.faces_a_step) for cost in costs))
    table.add_row("operations a step", *(f"{cost.operations / 1e12:.2f} T" for cost in costs))
    return table

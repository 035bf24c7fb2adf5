"""RefSTAR from end to end: a degraded face and a reference in, a restored face out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from models.pipeline_files import NewFolder, read_restorer, write_restorer
from models.prompts import PersonPrompt, PlainPrompt, open_prompt
from models.refsel import RefSel
from models.restorer import Restorer


class RefStarPipeline:
    """Restorer, prompt and RefSel together.

    A saved pipeline is a folder: `pipeline.json`, diffusers' `unet` and `vae`, peft's `unet_lora` and
    `vae_lora`, `reference_net`, `reference_attention`, `prompt`, and `refsel` where there is one.
    """

    def __init__(
        self, restorer: Restorer, prompt: PlainPrompt | PersonPrompt, refsel: RefSel | None = None
    ) -> None:
        self.restorer = restorer
        self.prompt = prompt
        self.refsel = refsel

    def __call__(
        self,
        image: ArrayLike,
        reference: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> NDArray[np.uint8]:
        """Restore one face or a batch.

        Args:
            image: uint8[H, W, 3] or [B, H, W, 3] RGB, aligned as ingest aligns (PIL images will do).
            reference: of the same person, in the same form; None to restore without one.
            mask: [H, W] or [B, H, W], True or 1 where the reference may be used (or a share in
                [0, 1]); None lets RefSel choose, with its threshold.

        Returns:
            uint8 in the form of `image`.

        Raises:
            ValueError: shapes or types do not fit, or there is neither a mask nor a RefSel, or the
                prompt needs the reference that is not given.
        """
        degraded = self._images(image, "image")
        clean = None if reference is None else self._images(reference, "reference")
        usable = None if clean is None or mask is None else self._mask(mask, clean)
        levels = self.restore(degraded, clean, usable).float().clamp(0, 1).mul(255).round()
        out: NDArray[np.uint8] = levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return out[0] if np.asarray(image).ndim == 3 else out

    def restore(
        self, degraded: Tensor, reference: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The same on tensors, without a gradient.

        Args:
            degraded: float[B, 3, H, W] in [0, 1], of the networks' device and dtype.
            reference: in the same form, or None.
            mask: float[B, 1, H, W] in [0, 1]; None lets RefSel choose.

        Returns:
            float[B, 3, H, W], near [0, 1], not clamped. The same bits whether or not the networks'
            parameters require a gradient at the moment.

        Raises:
            ValueError: as for a call.
        """
        with torch.inference_mode(), _frozen(self.restorer):
            if reference is None and isinstance(self.prompt, PersonPrompt):
                raise ValueError(
                    "this pipeline is told who somebody is; give a reference "
                    "(with a mask of zeros, to take nothing else from it)"
                )
            if reference is not None and mask is None:
                mask = self.choose_mask(degraded, reference)
            prompt = self.prompt.of(degraded if reference is None else reference)
            restored: Tensor = self.restorer(degraded, prompt, reference, mask)
            return restored

    def choose_mask(self, degraded: Tensor, reference: Tensor) -> Tensor:
        """RefSel's binary mask, float[B, 1, H, W], for tensors as `restore` takes them.

        Raises:
            ValueError: the pipeline has no RefSel.
        """
        if self.refsel is None:
            raise ValueError("this pipeline has no RefSel; give a mask")
        probability = self.refsel.probability(degraded.float(), reference.float())
        return (probability >= self.refsel.config.threshold)[:, None].to(reference.dtype)

    def _mask(self, mask: ArrayLike, reference: Tensor) -> Tensor:
        given = np.asarray(mask).astype(np.float32)
        if given.ndim == 2:
            given = given[None]
        fits = given.shape == (len(reference), *reference.shape[2:])
        if not fits or given.min() < 0 or given.max() > 1:
            raise ValueError(
                f"mask must be [B, H, W] of the images' size in [0, 1], not {given.shape} up to "
                f"{given.max()}"
            )
        return torch.from_numpy(given)[:, None].to(reference)

    def _images(self, images: ArrayLike, what: str) -> Tensor:
        given = np.asarray(images)
        if given.ndim == 3:
            given = given[None]
        if given.ndim != 4 or given.shape[3] != 3 or given.dtype != np.uint8:
            raise ValueError(
                f"{what} must be uint8 [H, W, 3] or [B, H, W, 3] RGB, not {given.dtype} "
                f"{given.shape}"
            )
        stacked = torch.from_numpy(np.ascontiguousarray(given.transpose(0, 3, 1, 2)))
        first = next(self.restorer.unet.parameters())
        return (stacked.to(first.device).float() / 255).to(first.dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        """Move all parts; RefSel stays in float32."""
        self.restorer.to(device, dtype)
        self.prompt.to(device, dtype)
        if self.refsel is not None:
            self.refsel.to(device)
        return self

    def save_pretrained(self, folder: Path) -> None:
        """Write everything into `folder`, which must be new, empty or a pipeline.

        Raises:
            FileExistsError: the folder holds something else.
        """
        with NewFolder(folder) as written:
            write_restorer(self.restorer, written)
            self.prompt.save(written / "prompt")
            if self.refsel is not None:
                self.refsel.save_pretrained(written / "refsel")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Load what `save_pretrained` wrote; nothing is downloaded.

        Raises:
            CheckpointError: a file is missing, broken, of another format, or does not fit.
        """
        restorer = read_restorer(folder)
        refsel = folder / "refsel"
        return cls(
            restorer,
            open_prompt(folder / "prompt"),
            RefSel.from_pretrained(refsel) if refsel.is_dir() else None,
        )


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient, for a while.

    On a CPU torch multiplies matrices in another order where one of them does, so that the last bits
    of a network's output would depend on whether it was just trained or just loaded.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)

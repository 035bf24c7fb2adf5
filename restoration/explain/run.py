"""`engine explain`: restore one pair under watch, and write a page about it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference import stack_images
from models.pipeline import RefStarPipeline
from models.prompts import PersonPrompt
from models.restorer import Restorer
from restoration.explain.attention import watched
from restoration.explain.page import Explained, write_page

Image = NDArray[np.uint8]


def explain(
    pipeline: RefStarPipeline,
    degraded: Path,
    reference: Path,
    page: Path,
    *,
    mask: Path | None = None,
    truth: Path | None = None,
) -> Explained:
    """Restore `degraded` with `reference` and write a page on what was looked at.

    Args:
        pipeline: of Phase II or III.
        degraded: an aligned, square image; it is brought to the size that the pipeline was trained at.
        reference: of the same person, in the same form.
        page: the HTML file; its folder is made if need be.
        mask: white where the reference may be used; None lets RefSel choose.
        truth: the ground truth, to be shown beside.

    Raises:
        ValueError: an image cannot be read or is not square, the pipeline knows no reference, or there
            is neither a mask nor a RefSel.
    """
    restorer = pipeline.restorer
    if restorer.reference_net is None:
        raise ValueError(
            "this pipeline is of Phase I and reads no reference; give one of Phase II or III"
        )
    size = trained_size(restorer)
    first, second = read_square(degraded, size), read_square(reference, size)
    given, clean = (_tensor(one, restorer) for one in (first, second))
    if mask is None:
        usable = pipeline.choose_mask(given, clean)
    else:
        painted = read_square(mask, size)[..., 0] > 127
        usable = torch.from_numpy(painted)[None, None].to(clean)
    with watched(restorer) as watch:
        restored = pipeline.restore(given, clean, usable)
    # A prompt that knows people needs the reference; everything else of it is masked away.
    if isinstance(pipeline.prompt, PersonPrompt):
        alone = pipeline.restore(given, clean, torch.zeros_like(usable))
    else:
        alone = pipeline.restore(given)
    explained = Explained(
        degraded=first,
        reference=second,
        mask=usable[0, 0].float().cpu().numpy() > 0.5,
        alone=_levels(alone),
        restored=_levels(restored),
        truth=None if truth is None else read_square(truth, size),
        maps=tuple(watch.maps()),
        chosen_by="RefSel" if mask is None else mask.name,
        names=f"{degraded.name}, restored with {reference.name}",
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, explained)
    return explained


def trained_size(restorer: Restorer) -> int:
    """The side of the images that a restorer was made for, px."""
    return int(restorer.unet.config.sample_size) * restorer.autoencoder.factor


def read_square(path: Path, size: int) -> Image:
    """Uint8 RGB [size, size, 3].

    Raises:
        ValueError: it cannot be read or is not square.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error) as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if image is None:
        raise ValueError(f"{path} is no readable image; give a PNG or JPEG")
    if image.shape[0] != image.shape[1]:
        raise ValueError(
            f"{path} is {image.shape[1]}x{image.shape[0]} px and so not aligned; give aligned, square "
            "images, as ingest makes them"
        )
    shrinks = image.shape[0] > size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)


def _tensor(image: Image, restorer: Restorer) -> Tensor:
    return stack_images([image]).contiguous().to(next(restorer.unet.parameters()))


def _levels(images: Tensor) -> Image:
    levels = images[0].float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.asarray(levels.permute(1, 2, 0).cpu().numpy(), np.uint8)

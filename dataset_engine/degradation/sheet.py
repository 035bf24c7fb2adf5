"""A contact sheet of degraded inputs: each row a photograph, its columns ever more severe."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dataset_engine.degradation.pipeline import degrade
from dataset_engine.degradation.settings import DegradationSettings, preset
from dataset_engine.degradation.severity import detail_kept
from dataset_engine.progress import Advance, silent

SIDE = 512
_SMALLEST_SIDE = 64  # px; less than this is an icon
_MOST_PIXELS = 100_000_000
_GAP, _TITLE, _LABEL = 6, 22, 20  # px
_PAPER, _INK, _ALARM = (250, 250, 248), (40, 40, 40), (190, 20, 20)


@dataclass(frozen=True)
class SetAside:
    """A file that did not make it onto the sheet, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Ladder:
    """The written sheet, how many rows it has, and the files set aside."""

    path: Path
    rows: int
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True)
class Rung:
    """One degraded input [512, 512, 3], the seed it came from and the share of detail it kept."""

    image: NDArray[np.uint8]
    seed: int
    kept: float


def write_ladder(
    images: Sequence[Path],
    out: Path,
    presets: Sequence[str] = ("paper",),
    *,
    seed: int = 0,
    columns: int = 7,
    draws: int = 48,
    cell: int = 192,
    progress: Advance = silent,
) -> Ladder:
    """Writes a severity ladder as a PNG: a row for each image and preset.

    A row shows the photograph, then `columns` of `draws` degraded inputs: the mildest, the most severe
    and those at equal steps of rank between, so that the columns marked severe show their share.
    Under each stands the share of detail kept, in the face region if the sidecar NAME.region.png lies
    beside the image, else in the whole picture.

    Args:
        images: photographs, brought to 512x512 by a central crop; region sidecars are passed over.
        out: the PNG to write; a file that is there is replaced once the new one is complete.
        presets: names of degradation presets.
        seed: of the first row's first draw; the seeds of rows and draws follow one another.
        columns: degraded inputs in a row, at least 2.
        draws: how many to choose them from, at least `columns`.
        cell: side of a picture on the sheet in px.
        progress: is told the rows done and the rows in all.

    Raises:
        ValueError: an unknown preset, too few columns or draws, or not one image could be read.
    """
    if not 2 <= columns <= draws:
        raise ValueError(f"columns: expected 2 to {draws} (the number of draws), got {columns}")
    settings = {name: preset(name) for name in presets}
    photographs: list[tuple[Path, NDArray[np.uint8], NDArray[np.bool_]]] = []
    set_aside: list[SetAside] = []
    for path in images:
        if path.name.endswith(".region.png"):
            continue
        try:
            photographs.append((path, *_read(path)))
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            set_aside.append(SetAside(path, str(error)))
    total = len(photographs) * len(settings)
    if not total:
        reasons = (
            "; ".join(f"{item.path}: {item.reason}" for item in set_aside) or "none were given"
        )
        raise ValueError(f"{out}: no sheet, for want of one readable image ({reasons})")
    strips: list[NDArray[np.uint8]] = []
    for path, image, region in photographs:
        for name, values in settings.items():
            first = seed + len(strips) * draws
            rungs = climb(image, region, values, seed=first, columns=columns, draws=draws)
            title = f"{path.parent.name}/{path.name}   {name}, seeds {first} to {first + draws - 1}"
            strips.append(strip(title, image, rungs, values.severe_threshold, cell))
            progress(len(strips), total)
    _save(np.concatenate(strips), out)
    return Ladder(out, total, tuple(set_aside))


def climb(
    image: NDArray[np.uint8],
    region: NDArray[np.bool_],
    settings: DegradationSettings,
    *,
    seed: int,
    columns: int,
    draws: int,
) -> list[Rung]:
    """Degrades an image `draws` times and returns `columns` of them at equal steps of severity's rank.

    Args:
        image: uint8 RGB [H, W, 3].
        region: bool [H, W], where detail counts.
        settings: what to draw from.
        seed: of the first draw.
        columns: how many to return, mildest first.
        draws: how many to make.
    """
    kept = [
        detail_kept(image, degrade(image, number, settings).image, region)
        for number in range(seed, seed + draws)
    ]
    order = sorted(range(draws), key=lambda index: -kept[index])
    chosen = [order[round(step)] for step in np.linspace(0, draws - 1, columns)]
    # Degrading a chosen one again is cheaper than keeping all of them.
    return [
        Rung(degrade(image, seed + index, settings).image, seed + index, kept[index])
        for index in chosen
    ]


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = _square(path, "RGB", Image.Resampling.LANCZOS)
        sidecar = path.with_name(f"{path.stem}.region.png")
        if not sidecar.exists():
            return image, np.ones(image.shape[:2], dtype=np.bool_)
        region = _square(sidecar, "L", Image.Resampling.NEAREST) > 127
    if not region.any():
        raise ValueError(f"the face region in {sidecar.name} is empty")
    return image, region


def _square(path: Path, mode: str, resampling: Image.Resampling) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        width, height = file.size
        if min(width, height) < _SMALLEST_SIDE:
            raise ValueError(f"{width} x {height} px is too small for a face")
        if width * height > _MOST_PIXELS:
            raise ValueError(f"{width} x {height} px is more than {_MOST_PIXELS:,} pixels")
        upright = ImageOps.exif_transpose(file).convert(mode)
    return np.asarray(ImageOps.fit(upright, (SIDE, SIDE), resampling), dtype=np.uint8)


def strip(
    title: str, image: NDArray[np.uint8], rungs: Sequence[Rung], threshold: float, cell: int
) -> NDArray[np.uint8]:
    """A row of the sheet: a title, the ground truth, the rungs, and a label under each.

    Returns:
        uint8 RGB [h, w, 3]; rungs that kept less detail than `threshold` are framed.
    """
    width = _GAP + (len(rungs) + 1) * (cell + _GAP)
    sheet = Image.new("RGB", (width, _TITLE + cell + _LABEL + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    pen.text((_GAP, 4), title, _INK, font)
    entries = [(image, "ground truth", _INK)]
    for rung in rungs:
        severe = rung.kept < threshold
        label = f"kept {rung.kept:.2f}" + ("  severe" if severe else "")
        entries.append((rung.image, label, _ALARM if severe else _INK))
    for column, (picture, label, colour) in enumerate(entries):
        left = _GAP + column * (cell + _GAP)
        small = Image.fromarray(picture).resize((cell, cell), Image.Resampling.BOX)
        sheet.paste(small, (left, _TITLE))
        pen.text((left + 2, _TITLE + cell + 2), label, colour, font)
        if colour is _ALARM:
            pen.rectangle(
                (left, _TITLE, left + cell - 1, _TITLE + cell - 1), outline=_ALARM, width=2
            )
    return np.asarray(sheet, dtype=np.uint8)


def _save(pixels: NDArray[np.uint8], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out.parent, suffix=".png", delete=False) as file:
        temporary = Path(file.name)
        try:
            Image.fromarray(pixels).save(file, "PNG", optimize=True)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(out)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

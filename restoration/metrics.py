"""The numbers of the paper's Table 1, with SSIM, the face's own PSNR and the colour error beside them.

Each is made by the library that is known for it, and each says how it was made. What cannot be measured
says why in its cell; nothing is put in its place. Every image is decoded by the caller, once, and no
network sees a truth twice, however many methods are compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import FrechetInceptionDistance

from restoration.metric_definitions import (
    COLOUR_SIDE,
    PSNR_MOST,
    Definition,
    Metric,
    definitions,
)
from restoration.metric_tools import Tool, Tools

__all__ = ["Cell", "Definition", "Face", "Metric", "Scores", "measure"]

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BATCH: Final = 8
"""Faces that the networks see at once."""
NO_TRUTH: Final = "no ground truth"


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a test set, with what each method made of it; all images of one size, aligned."""

    name: str
    restored: Mapping[str, Image]
    """By method: uint8 RGB [S, S, 3]. A method that has no such face is absent."""
    truth: Image | None = None
    """None in a set of real photographs."""
    reference: Image | None = None
    region: Mask | None = None
    """bool [S, S], the face region of the truth."""


@dataclass(frozen=True)
class Cell:
    """One number, or why it is missing."""

    definition: Definition
    value: float | None
    """The mean over the faces (FID: of the set); None where `missing` says why."""
    missing: str = ""
    faces: int = 0
    """How many it was measured on."""
    per_face: Mapping[str, float] = field(default_factory=dict)
    """By the face's name; empty for FID."""


@dataclass(frozen=True)
class Scores:
    """All metrics of one method."""

    method: str
    cells: Mapping[Metric, Cell]


def measure(
    faces: Iterable[Face],
    tools: Tools,
    *,
    real: Iterable[Image] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Scores]:
    """Measure every method on these faces; they are taken a batch at a time.

    Args:
        faces: the test set, each name once.
        tools: the networks.
        real: what FID compares with, uint8 RGB [H, W, 3] each (FFHQ, for real photographs); None for
            the truths.
        progress: is told how many faces are done.

    Returns:
        by method, in the order in which methods are first seen.

    Raises:
        ValueError: images of one face differ in size or type, or a name is there twice.
    """
    run = _Run(tools)
    if real is not None:
        run.take_real(real)
    done = 0
    with torch.inference_mode():
        for batch in _batches(faces):
            run.take(batch, truths_are_real=real is None)
            done += len(batch)
            if progress is not None:
                progress(done, None)
    return run.scores()


def _batches(faces: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(faces)
    while batch := list(islice(remaining, BATCH)):
        yield batch


class _Run:
    """Values and sums so far."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._values: dict[str, dict[Metric, dict[str, float]]] = {}
        self._fid: dict[str, FrechetInceptionDistance] = {}
        self._real: FrechetInceptionDistance | None = None
        self._names: set[str] = set()

    def take_real(self, images: Iterable[Image]) -> None:
        """Count images into FID's set of real ones."""
        if self._tools.inception.network is not None:
            with torch.inference_mode():
                for image in images:
                    self._count_real(self._features([image]))

    def take(self, faces: list[Face], *, truths_are_real: bool) -> None:
        """Measure a batch."""
        for face in faces:
            _check(face)
            if face.name in self._names:
                raise ValueError(f"{face.name} is there twice; give each face a name of its own")
            self._names.add(face.name)
        truths = [face.truth for face in faces if face.truth is not None]
        if truths and truths_are_real and self._tools.inception.network is not None:
            self._count_real(self._features(truths))
        owners = {
            kind: self._known([(face.name, getattr(face, kind)) for face in faces])
            for kind in ("truth", "reference")
        }
        for method in dict.fromkeys(name for face in faces for name in face.restored):
            self._take_method(method, [face for face in faces if method in face.restored], owners)

    def _take_method(
        self, method: str, faces: list[Face], owners: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        values = self._values.setdefault(method, {metric: {} for metric in Metric})
        names = [face.name for face in faces]
        restored = self._stacked([face.restored[method] for face in faces])
        embeddings = self._tools.identity(restored)
        for metric, kind in ((Metric.ID_GT, "truth"), (Metric.ID_REF, "reference")):
            for place, name in enumerate(names):
                if embeddings is not None and name in owners[kind]:
                    cosine = float(embeddings[place] @ owners[kind][name])
                    values[metric][name] = 100 * cosine
        if self._tools.musiq.network is not None:
            quality = self._tools.musiq.network(restored).flatten().tolist()
            values[Metric.MUSIQ].update(zip(names, quality, strict=True))
        if self._tools.inception.network is not None:
            features = self._features([face.restored[method] for face in faces])
            self._fid_of(method, features).update(features, real=False)
        known = [place for place, face in enumerate(faces) if face.truth is not None]
        if known:
            self._take_pairs([faces[place] for place in known], method, restored[known], values)

    def _take_pairs(
        self,
        faces: list[Face],
        method: str,
        restored: Tensor,
        values: dict[Metric, dict[str, float]],
    ) -> None:
        names = [face.name for face in faces]
        truths = [face.truth for face in faces if face.truth is not None]
        target = self._stacked(truths)
        found = {
            Metric.PSNR: _psnr(restored, target),
            Metric.SSIM: structural_similarity_index_measure(
                restored, target, data_range=1.0, reduction="none"
            ),
        }
        if self._tools.lpips.network is not None:
            found[Metric.LPIPS] = self._tools.lpips.network(restored, target)
        for metric, numbers in found.items():
            values[metric].update(zip(names, numbers.flatten().tolist(), strict=True))
        for place, face in enumerate(faces):
            if face.region is not None and face.region.any():
                inside = torch.from_numpy(face.region).to(restored.device)
                pixels = (one[place][:, inside][None] for one in (restored, target))
                values[Metric.FACE_PSNR][face.name] = float(_psnr(*pixels))
            values[Metric.COLOUR][face.name] = colour_error(
                face.restored[method], truths[place], face.region
            )

    def _known(self, images: list[tuple[str, Image | None]]) -> dict[str, Tensor]:
        """The identity of each image that there is, by the face's name."""
        there = [(name, image) for name, image in images if image is not None]
        if not there or self._tools.arcface.network is None:
            return {}
        found = self._tools.identity(self._stacked([image for _, image in there]))
        assert found is not None  # noqa: S101 - there is a network
        return {name: found[place] for place, (name, _) in enumerate(there)}

    def _stacked(self, images: list[Image]) -> Tensor:
        levels = torch.from_numpy(np.stack(images)).to(self._tools.device)
        return levels.permute(0, 3, 1, 2).contiguous().float() / 255

    def _features(self, images: list[Image]) -> Tensor:
        network = self._tools.inception.network
        assert network is not None  # noqa: S101 - the caller looked
        levels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        features: Tensor = network(levels.to(self._tools.device))
        return features

    def _count_real(self, features: Tensor) -> None:
        if self._real is None:
            self._real = _distance(features)
        self._real.update(features, real=True)

    def _fid_of(self, method: str, features: Tensor) -> FrechetInceptionDistance:
        if method not in self._fid:
            self._fid[method] = _distance(features)
        return self._fid[method]

    def scores(self) -> dict[str, Scores]:
        """All cells of all methods."""
        known = definitions(self._tools)
        return {
            method: Scores(
                method,
                {
                    metric: self._fid_cell(method, known[metric])
                    if metric is Metric.FID
                    else self._cell(values[metric], known[metric])
                    for metric in Metric
                },
            )
            for method, values in self._values.items()
        }

    def _cell(self, values: dict[str, float], definition: Definition) -> Cell:
        if not values:
            return Cell(definition, None, self._why(definition.metric))
        return Cell(definition, float(np.mean(list(values.values()))), "", len(values), values)

    def _fid_cell(self, method: str, definition: Definition) -> Cell:
        if self._tools.inception.missing:
            return Cell(definition, None, self._tools.inception.missing)
        distance = self._fid[method]
        count = int(distance.fake_features_num_samples)
        if self._real is None:
            return Cell(definition, None, "no ground truth, and no other set of real images given")
        if min(count, int(self._real.real_features_num_samples)) < 2:
            return Cell(definition, None, "two images of each set are needed at least")
        distance.real_features_sum = self._real.real_features_sum
        distance.real_features_cov_sum = self._real.real_features_cov_sum
        distance.real_features_num_samples = self._real.real_features_num_samples
        return Cell(definition, float(distance.compute()), "", count)

    def _why(self, metric: Metric) -> str:
        """Why a metric has no value on any face."""
        tools: dict[Metric, Tool[Any]] = {
            Metric.LPIPS: self._tools.lpips,
            Metric.ID_GT: self._tools.arcface,
            Metric.ID_REF: self._tools.arcface,
            Metric.MUSIQ: self._tools.musiq,
        }
        tool = tools.get(metric)
        if tool is not None and tool.missing:
            return tool.missing
        if metric is Metric.ID_REF:
            return "no reference"
        return "no face region" if metric is Metric.FACE_PSNR else NO_TRUTH


class _Features(nn.Module):
    """Lets torchmetrics' FID take features that were made once for all methods."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def _distance(features: Tensor) -> FrechetInceptionDistance:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory, for a metric that keeps every feature
        distance = FrechetInceptionDistance(feature=_Features(features.shape[1]))
    return distance.to(features.device)


def _psnr(images: Tensor, target: Tensor) -> Tensor:
    """float[B] in dB, of float[B, ...] in [0, 1]."""
    decibels: Tensor = peak_signal_noise_ratio(
        images,
        target,
        data_range=1.0,
        reduction="none",
        dim=tuple(range(1, images.ndim)),
    )
    return decibels.clamp(max=PSNR_MOST)


def colour_error(image: Image, truth: Image, region: Mask | None = None) -> float:
    """How far colours drift, without regard to detail: the mean CIE 1976 Delta E*ab at 32 px.

    Args:
        image: uint8 RGB [H, W, 3].
        truth: the same.
        region: bool [H, W], where it counts; None or an empty one for everywhere.
    """
    size = (COLOUR_SIDE, COLOUR_SIDE)
    first, second = (
        cv2.cvtColor(
            cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255,
            cv2.COLOR_RGB2LAB,
        )
        for one in (image, truth)
    )
    away = np.linalg.norm(first - second, axis=2)
    if region is None or not region.any():
        return float(away.mean())
    weight = cv2.resize(region.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return float((away * weight).sum() / weight.sum())


def _check(face: Face) -> None:
    images = [*face.restored.values(), face.truth, face.reference]
    there = [image for image in images if image is not None]
    shapes = {image.shape for image in there}
    wrong = len(shapes) > 1 or any(image.dtype != np.uint8 for image in there)
    if wrong or any(len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3 for shape in shapes):
        raise ValueError(
            f"{face.name}: its images must be uint8 [S, S, 3] of one size, not "
            f"{', '.join(f'{image.dtype} {image.shape}' for image in there)}"
        )
    if shapes and face.region is not None and face.region.shape != next(iter(shapes))[:2]:
        raise ValueError(f"{face.name}: its region is {face.region.shape}, of another size")

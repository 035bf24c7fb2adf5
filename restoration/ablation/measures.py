"""What a row's restorations are judged by: what came back, who it looks like, and what leaked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from restoration.evaluate_transfer.cases import Case
from restoration.evaluate_transfer.conditions import Images
from restoration.evaluate_transfer.recovery import agreement, high_pass, leak, levels
from restoration.refstar_validation import face_psnr


@dataclass(frozen=True)
class Measures:
    """Of one trained model over all test pairs; NaN where nothing is known to be measured on."""

    marks: float
    """Correlation with the truth inside marks that the input hides and M allows, in [-1, 1]."""
    contrast: float
    """How strong these marks are: 0 not there, 1 as in the truth."""
    like_truth: float
    """Cosine of facial detail with the ground truth, in [-1, 1]; stands in for ID-GT."""
    like_reference: float
    """Cosine of facial detail with the reference, in [-1, 1]; stands in for ID-Ref."""
    glasses: float
    """Share of the reference's glasses that came through: 0 none, 1 as they stand there."""
    psnr: float
    """In the ground truth's face region, dB."""


MEASURES: Final = tuple(field.name for field in fields(Measures))


def measure_row(cases: Sequence[Case], restored: Images, alone: Images) -> Measures:
    """Measures of a model.

    Args:
        cases: the test pairs.
        restored: its results, float32[N, S, S, 3] in [0, 1].
        alone: Phase I's, without a reference, in the same form.
    """
    truth, reference = (
        levels(np.stack([getattr(one.face, name) for one in cases]))
        for name in ("truth", "reference")
    )
    regions = [one.face.region for one in cases]
    inside = agreement(list(restored), list(truth), [one.marks for one in cases])
    return Measures(
        marks=inside.correlation,
        contrast=inside.contrast,
        like_truth=_mean_likeness(restored, truth, regions),
        like_reference=_mean_likeness(restored, reference, regions),
        glasses=leak(list(restored), list(alone), list(reference), [one.glasses for one in cases]),
        psnr=_psnr(restored, truth, regions),
    )


def likeness(
    image: NDArray[np.float32], other: NDArray[np.float32], region: NDArray[np.bool_]
) -> float:
    """Cosine between the detail of two images [S, S, 3] within a region, in [-1, 1]."""
    one, two = (high_pass(each)[region].ravel() for each in (image, other))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / lengths if lengths else 0.0


def read_measures(values: Mapping[str, float | None]) -> Measures:
    """From JSON, where NaN is null."""
    found = {name: values[name] for name in MEASURES}
    return Measures(**{n: math.nan if value is None else value for n, value in found.items()})


def _mean_likeness(images: Images, others: Images, regions: Sequence[NDArray[np.bool_]]) -> float:
    every = [likeness(*each) for each in zip(images, others, regions, strict=True)]
    return float(np.mean(every))


def _psnr(images: Images, truth: Images, regions: Sequence[NDArray[np.bool_]]) -> float:
    one, two = (torch.from_numpy(each.transpose(0, 3, 1, 2)) for each in (images, truth))
    region = torch.from_numpy(np.stack(regions))[:, None].float()
    return float(face_psnr(one, two, region).mean())

"""What each metric is: library, colour space, crop, resize, backbone and the weights behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from typing import Any, Final

from restoration.metric_tools import Tool, Tools

PSNR_MOST: Final = 100.0
"""dB given for an image that is the same as its truth, whose PSNR has no end."""
COLOUR_SIDE: Final = 32
"""px that images are reduced to for the colour error: what is left is colour, without detail."""


class Metric(StrEnum):
    """The metrics in the order of Table 1, and those beside them."""

    PSNR = "PSNR"
    LPIPS = "LPIPS"
    FID = "FID"
    ID_GT = "ID-GT"
    ID_REF = "ID-Ref"
    MUSIQ = "MUSIQ"
    SSIM = "SSIM"
    FACE_PSNR = "face PSNR"
    COLOUR = "colour error"


@dataclass(frozen=True)
class Definition:
    """How a number is made, in words for people."""

    metric: Metric
    higher_is_better: bool
    unit: str
    library: str
    colour_space: str = "sRGB"
    crop: str = "none"
    resize: str = "none"
    backbone: str = "none"
    weights: str = "none"
    """The file's name."""
    sha256: str = ""
    """Of the file; empty where there are no weights."""


def definitions(tools: Tools) -> dict[Metric, Definition]:
    """The definition of every metric, with these networks, in the table's order."""
    torchmetrics = f"torchmetrics {version('torchmetrics')}"
    identity = Definition(
        Metric.ID_GT,
        True,
        "cosine x 100",
        f"ONNX Runtime {version('onnxruntime')}",
        crop="the aligned face to ArcFace's template, by one fixed similarity",
        resize="to 112 px, bilinear with antialiasing",
        backbone="ArcFace",
    )
    found = [
        Definition(Metric.PSNR, True, f"dB, at most {PSNR_MOST:.0f}", torchmetrics),
        _with(
            tools.lpips,
            Definition(
                Metric.LPIPS,
                False,
                "distance",
                f"lpips {version('lpips')}, heads v0.1",
                backbone="AlexNet",
            ),
        ),
        _with(
            tools.inception,
            Definition(
                Metric.FID,
                False,
                "distance of the sets",
                torchmetrics,
                resize="to 299 px, bilinear with antialiasing",
                backbone="Inception v3 of 2015, 2,048 features",
            ),
        ),
        _with(tools.arcface, identity),
        _with(tools.arcface, replace(identity, metric=Metric.ID_REF)),
        _with(
            tools.musiq,
            Definition(
                Metric.MUSIQ,
                True,
                "0 to 100",
                "pyiqa",
                resize="to 384 and 224 px on the longer side, as MUSIQ itself does",
                backbone="MUSIQ, KonIQ-10k",
            ),
        ),
        Definition(
            Metric.SSIM, True, "0 to 1", f"{torchmetrics}, Gaussian window of 11 px, sigma 1.5"
        ),
        Definition(
            Metric.FACE_PSNR,
            True,
            f"dB, at most {PSNR_MOST:.0f}",
            torchmetrics,
            crop="the face region of the truth",
        ),
        Definition(
            Metric.COLOUR,
            False,
            "Delta E*ab (CIE 1976)",
            f"OpenCV {version('opencv-python-headless')}",
            colour_space="CIELAB, D65",
            crop="the face region of the truth where it is known, else none",
            resize=f"to {COLOUR_SIDE} px by area",
        ),
    ]
    return {one.metric: one for one in found}


def _with(tool: Tool[Any], definition: Definition) -> Definition:
    return replace(definition, weights=tool.file, sha256=tool.sha256) if tool.file else definition

"""The paper's own figures, quoted for methods whose results are not there to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import yaml
from pydantic import TypeAdapter

from restoration.metrics import Metric

SYNTHETIC: Final = (
    Metric.PSNR,
    Metric.LPIPS,
    Metric.FID,
    Metric.ID_GT,
    Metric.ID_REF,
    Metric.MUSIQ,
)
"""Columns on Celeb-Ref-Test."""
REAL: Final = (Metric.FID, Metric.ID_REF, Metric.MUSIQ)
"""Columns on photographs without a ground truth (RealRef60)."""


@dataclass(frozen=True)
class QuotedMethod:
    """A row of Table 1."""

    reference: bool
    """Whether the method sees a reference."""
    kind: str
    """GAN or diffusion."""
    synthetic: tuple[float, ...]
    real: tuple[float, ...]


@dataclass(frozen=True)
class Paper:
    """Table 1 as it was printed."""

    source: str
    methods: dict[str, QuotedMethod]

    def name_of(self, given: str) -> str | None:
        """The table's name of a method, however it is spelt; None for one that it does not have."""
        return {_plain(name): name for name in self.methods}.get(_plain(given))


@cache
def paper() -> Paper:
    """Read what comes with the project."""
    text = Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")
    return TypeAdapter(Paper).validate_python(yaml.safe_load(text))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())

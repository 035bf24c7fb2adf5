"""The forms that a source can have."""

from __future__ import annotations

from enum import StrEnum


class Form(StrEnum):
    """How a source holds its pictures."""

    IDENTITIES = "identities"
    """A folder for each identity, as in CelebRef-HQ: every two images of one may be a pair."""
    CELEBA = "celeba"
    """CelebA's list of identities beside its images: Celeb-Ref-Test is drawn from it."""
    PAIRS = "pairs"
    """A CSV file that names each pair."""
    INPUTS = "inputs"
    """Degraded pictures and references without ground truth, as in RealRef60."""

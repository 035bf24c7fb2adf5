"""The rows of Table 2: what each leaves out of the full recipe, and for how many steps it learns."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

from models.reference_features import AttentionForm
from restoration.refstar_config import MaskSource, RefStarTraining


class Row(StrEnum):
    """A training of the ablation; the value names its folder."""

    ALL_ONES = "all-ones"
    """The whole reference may be used."""
    ALL_ZEROS = "all-zeros"
    """Nothing of the reference's pixels may be used."""
    NO_CYCLE = "no-cycle"
    """Without Eq. 5, for as many steps as the others."""
    NO_CYCLE_LONGER = "no-cycle-longer"
    """Without Eq. 5, for as much compute as the others."""
    CONCATENATED = "concatenated"
    """Eq. 3 in place of the decoupled attention (DCA, Eq. 4)."""
    FULL = "full"
    """The recipe as it is configured."""

    @property
    def heading(self) -> str:
        """As Table 2 names it."""
        return TITLES[self]


TITLES: Final = {
    Row.ALL_ONES: "w/ all-ones mask",
    Row.ALL_ZEROS: "w/ all-zeros mask",
    Row.NO_CYCLE: "w/o cycle loss",
    Row.NO_CYCLE_LONGER: "w/o cycle loss, equal compute",
    Row.CONCATENATED: "w/o DCA",
    Row.FULL: "full",
}
FIXED_MASKS: Final = {Row.ALL_ONES: True, Row.ALL_ZEROS: False}
CYCLE_COST: Final = 2
"""A step with the cycle runs the restorer twice: without it, twice the steps cost the same."""


def row_settings(row: Row, settings: RefStarTraining, seed: int) -> RefStarTraining:
    """The settings of one training of Phase II.

    The last weights are what is measured, so that no row gains by choosing a good moment: one
    validation at the end is all there is.

    Args:
        row: which.
        settings: the full recipe's.
        seed: of order, references and degradations.
    """
    steps = settings.phase_two.steps * (CYCLE_COST if row is Row.NO_CYCLE_LONGER else 1)
    phase = replace(settings.phase_two, steps=steps, validate_every=steps, keep=1)
    changed = replace(settings, seed=seed, phase_two=phase, validation_faces=1, pictures=0)
    if row in FIXED_MASKS:
        return replace(changed, data=replace(changed.data, mask=MaskSource.ANNOTATED))
    if row in (Row.NO_CYCLE, Row.NO_CYCLE_LONGER):
        return replace(changed, losses=replace(changed.losses, cycle=0.0))
    if row is Row.CONCATENATED:
        attention = replace(changed.restorer.attention, form=AttentionForm.CONCATENATED)
        return replace(changed, restorer=replace(changed.restorer, attention=attention))
    return changed

"""What the annotation project looks like: its labelling page, and the settings it needs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def project_settings() -> dict[str, Any]:
    """The settings of the annotation project that the engine cares for."""
    return {
        "label_config": labelling_config(),
        "show_collab_predictions": True,
        "sampling": "Uncertainty sampling",
        # Proposals are imported in batches: opening a list must not wait for a model.
        "evaluate_predictions_automatically": False,
        "maximum_annotations": 1,
        "show_skip_button": True,
        "enable_empty_annotation": True,
    }


def labelling_config() -> str:
    """The labelling interface, as Label Studio keeps it: without white space around it."""
    return files("annotator").joinpath("labelling.xml").read_text(encoding="utf-8").strip()

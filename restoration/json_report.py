"""Scores as JSON files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dataset_engine.shards.files import write_whole


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain values, whole or not at all; a score that is not defined (NaN) is null."""
    write_whole(path, json.dumps(_defined(values), indent=2, allow_nan=False).encode())


def _defined(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, dict):
        return {name: _defined(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value

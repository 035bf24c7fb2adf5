"""Training state on disk: written whole or not at all, read without running any code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from models.refsel import CheckpointError


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`; a crash leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        CheckpointError: the file is missing, broken or holds more than tensors and plain values.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"training state {path} cannot be read ({str(error).splitlines()[0]}); "
            "remove it to start this training again"
        ) from error
    return state

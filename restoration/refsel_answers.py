"""RefSel's answers on examples, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.inference import predict
from models.refsel import RefSel
from restoration.refsel_data import Example


def answers(
    model: RefSel, examples: Iterable[Example], batch_size: int
) -> Iterator[tuple[Example, NDArray[np.float32]]]:
    """Each example with RefSel's probability float32[H, W] that a reference pixel is consistent."""
    gathered: list[Example] = []

    def flush() -> Iterator[tuple[Example, NDArray[np.float32]]]:
        if gathered:
            pairs = [one.pair for one in gathered]
            found = predict(model, [one.first for one in pairs], [one.reference for one in pairs])
            yield from zip(gathered, found, strict=True)
            gathered.clear()

    for example in examples:
        gathered.append(example)
        if len(gathered) == batch_size:
            yield from flush()
    yield from flush()

"""Making one mask of two."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Merge = Literal["both", "either"]


def merged(first: NDArray[np.bool_], second: NDArray[np.bool_], how: Merge) -> NDArray[np.bool_]:
    """What both masks keep, or what either keeps; each bool [H, W]."""
    return first & second if how == "both" else first | second

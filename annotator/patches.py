"""The connected patches of a pair about which the U-Net is in doubt, or, before any, the rule is."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.cold_start.landmarks import Landmarks, NoAnalyser
from dataset_engine.cold_start.proposing import pair_faces
from dataset_engine.cold_start.rule import DISAGREES
from dataset_engine.cold_start.texture import disagreement
from dataset_engine.pair_images import SIDE, BrokenPair, read_pair
from dataset_engine.proposing import SPECK_AREA
from dataset_engine.store import Store
from dataset_engine.store.tables import Pair
from dataset_engine.stored_pairs import pair_files
from models.inference import margins
from models.refsel import RefSel

PAIRS: Final = 128
"""Pairs whose patches are kept in memory, 0.5 MB each."""
DOUBTFUL: Final = math.log(9)
"""Logit within which the U-Net is in doubt: neither answer has more than nine in ten."""
NEAR: Final = 8
"""How far beside a patch a click may be, px."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch bool [512, 512] and its name, the same as long as the patch is."""

    name: str
    mask: NDArray[np.bool_]


class Patches:
    """Finds patches; threads may share one.

    Args:
        store: the store.
        landmarks: of the store's images, for the rule.
        model: gives the newest U-Net and its version, or None before the first.
    """

    def __init__(
        self, store: Store, landmarks: Landmarks, model: Callable[[], tuple[str, RefSel] | None]
    ) -> None:
        self._store = store
        self._landmarks = landmarks
        self._model = model
        self._lock = threading.Lock()
        self._network = threading.Lock()
        self._known: OrderedDict[tuple[int, str], NDArray[np.uint16]] = OrderedDict()

    def at(self, pair: Pair, column: int, row: int) -> Patch | None:
        """The patch at a pixel of the reference, or the one nearest to it within `NEAR`."""
        labels = self._labels(pair)
        top, left = max(row - NEAR, 0), max(column - NEAR, 0)
        window = labels[top : row + NEAR + 1, left : column + NEAR + 1]
        rows, columns = np.nonzero(window)
        if not rows.size:
            return None
        nearest = int(np.argmin((rows + top - row) ** 2 + (columns + left - column) ** 2))
        mask = labels == window[rows[nearest], columns[nearest]]
        first = np.unravel_index(int(mask.argmax()), mask.shape)
        return Patch(f"patch-{first[1]}-{first[0]}", mask)

    def _labels(self, pair: Pair) -> NDArray[np.uint16]:
        model = self._model()
        key = (pair.id, model[0] if model else "")
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        doubtful = self._by_rule(pair) if model is None else self._by_unet(pair, model[1])
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            doubtful.view(np.uint8), connectivity=8
        )
        numbers = np.where(stats[:, cv2.CC_STAT_AREA] >= SPECK_AREA, np.arange(len(stats)), 0)
        found: NDArray[np.uint16] = np.asarray(numbers.astype(np.uint16)[labels])
        with self._lock:
            self._known[key] = found
            while len(self._known) > PAIRS:
                self._known.popitem(last=False)
        return found

    def _by_unet(self, pair: Pair, model: RefSel) -> NDArray[np.bool_]:
        read = read_pair(pair_files(self._store, pair), model.config.working_size or SIDE)
        if isinstance(read, BrokenPair):
            return np.zeros((SIDE, SIDE), np.bool_)
        with self._network:  # side by side they would only take each other's cores
            found = margins(model, [read.gt], [read.reference])[0]
        margin = cv2.resize(found, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        return np.asarray((np.abs(margin) < DOUBTFUL) & read.region)

    def _by_rule(self, pair: Pair) -> NDArray[np.bool_]:
        try:
            faces = pair_faces(self._store, self._landmarks, pair)
        except (NoAnalyser, OSError):
            faces = None
        if faces is None:
            return np.zeros((SIDE, SIDE), np.bool_)
        return np.asarray(disagreement(faces) > DISAGREES / 2)

"""How much of each proposal people kept: the IoU of proposals and final masks, measured once."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection
from threading import Lock, Thread

from annotator.review.pictures import overlap
from dataset_engine.store import BlobError, Store

MOST = 200_000
"""Overlaps that are kept: about 50 MB."""

Masks = tuple[str, str]
"""Hashes of the proposal and of the final mask; files never change, so neither does their overlap."""

log = logging.getLogger(__name__)


class Overlaps:
    """Measures in a thread of its own, so that no page waits for thousands of masks to be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Masks, float | None] = OrderedDict()
        self._wanted: set[Masks] = set()
        self._lock = Lock()
        self._thread: Thread | None = None
        self._measured = 0

    def known(self, wanted: Collection[Masks]) -> dict[Masks, float]:
        """The overlaps that are known by now; the others are measured from now on."""
        with self._lock:
            self._wanted |= {masks for masks in wanted if masks not in self._known}
            if self._wanted and self._thread is None:
                self._thread = Thread(target=self._measure, name="overlaps", daemon=True)
                self._thread.start()
            found = {masks: self._known.get(masks) for masks in wanted}
        return {masks: iou for masks, iou in found.items() if iou is not None}

    @property
    def measured(self) -> int:
        """How many have been measured so far."""
        return self._measured

    def join(self) -> None:
        """Wait until all that was asked for is measured."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _measure(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                masks = self._wanted.pop()
            iou = self._one(masks)
            with self._lock:
                self._known[masks] = iou
                self._measured += 1
                while len(self._known) > MOST:
                    self._known.popitem(last=False)

    def _one(self, masks: Masks) -> float | None:
        try:
            return overlap(self._store.mask(masks[0]), self._store.mask(masks[1]))
        except (BlobError, ValueError) as error:
            log.warning("a mask cannot be compared: %s", error)
            return None

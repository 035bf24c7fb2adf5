"""One click on the reference toggles a whole part of the face, or the patch in doubt under it.

Label Studio sends a click as a keypoint in ``context`` and shows the regions that are answered. Every
part has a region id of its own, so that an answer replaces that part alone and leaves what people
painted; toggled back, the same region comes as the other label. What a part is now is read from the
annotator's draft, and for the seconds before it is saved from memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotator.brush import encode_mask
from annotator.patches import Patches
from annotator.results import CONFLICT, CONSISTENT, brush_tokens
from dataset_engine.cold_start.landmarks import Landmarks, NoAnalyser
from dataset_engine.cold_start.parts import facial_parts
from dataset_engine.pair_images import SIDE
from dataset_engine.store import Store
from dataset_engine.store.queries import latest_proposal
from dataset_engine.store.tables import Image, Pair

FACES: Final = 256
"""References whose parts are kept in memory; each takes about 0.4 MB."""
REMEMBERED: Final = 4096
"""Regions whose last answer is kept until a draft tells."""
UNSAVED_SECONDS: Final = 15.0
"""After this the editor has saved a draft, or the page was left without one."""
PREFIX: Final = "click-"


@dataclass(frozen=True, eq=False)
class _Area:
    """A part or patch: its region's id, its mask as Label Studio takes it, and as packed bits."""

    region_id: str
    rle: list[int]
    packed: NDArray[np.uint8]

    @classmethod
    def of(cls, region_id: str, mask: NDArray[np.bool_]) -> _Area:
        return cls(region_id, encode_mask(mask), np.packbits(mask))


@dataclass(frozen=True, eq=False)
class _Face:
    """A reference's parts; `meant` uint8 [H, W] holds 1 + the number of the part under a pixel."""

    meant: NDArray[np.uint8]
    areas: tuple[_Area, ...]


class Clicks:
    """Answers clicks; threads may share one.

    Args:
        store: the store.
        landmarks: of the store's images.
        patches: finds what is in doubt where no part is.
    """

    def __init__(self, store: Store, landmarks: Landmarks, patches: Patches) -> None:
        self._store = store
        self._landmarks = landmarks
        self._patches = patches
        self._lock = threading.Lock()
        self._faces: OrderedDict[str, _Face] = OrderedDict()
        self._kept: OrderedDict[tuple[int, str], NDArray[np.uint8]] = OrderedDict()
        self._answered: OrderedDict[tuple[object, str], tuple[str, float]] = OrderedDict()

    def answer(
        self, pair: Pair, task: Mapping[str, Any], context: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The region that the newest click toggles, in Label Studio's form; none where nothing is.

        A click with Ctrl and Alt, which Label Studio calls negative, always says consistent.

        Args:
            pair: the pair shown, with its images loaded.
            task: the task as Label Studio sends it, with ``drafts`` and ``annotations``.
            context: the request's ``params.context``.
        """
        click = newest_click(context)
        if click is None:
            return []
        area = self._area(pair, *click.place)
        if area is None:
            return []
        label: str = CONSISTENT
        if click.positive:
            now = self._label_now(pair, task, area)
            label = CONSISTENT if now == CONFLICT else CONFLICT
        with self._lock:
            self._answered[task.get("id"), area.region_id] = (label, time.time())
            _bound(self._answered, REMEMBERED)
        return [brush_tokens(area.rle, (SIDE, SIDE), label) | {"id": area.region_id}]

    def _area(self, pair: Pair, x: float, y: float) -> _Area | None:
        face = self._face(pair.ref)
        row, column = min(int(y * SIDE), SIDE - 1), min(int(x * SIDE), SIDE - 1)
        number = int(face.meant[row, column])
        if number:
            return face.areas[number - 1]
        patch = self._patches.at(pair, column, row)
        return None if patch is None else _Area.of(f"{PREFIX}{patch.name}", patch.mask)

    def _face(self, image: Image) -> _Face:
        with self._lock:
            if image.sha256 in self._faces:
                self._faces.move_to_end(image.sha256)
                return self._faces[image.sha256]
        region = self._store.mask(image.region_sha256)
        try:
            points = self._landmarks.of(image)
        except NoAnalyser:
            points = None
        parts = {} if points is None else facial_parts(points, region)
        meant = np.zeros(region.shape, np.uint8)
        for number, area in reversed(list(enumerate(parts.values(), start=1))):
            meant[area] = number
        face = _Face(
            meant, tuple(_Area.of(PREFIX + part.replace(" ", "-"), parts[part]) for part in parts)
        )
        with self._lock:
            self._faces[image.sha256] = face
            _bound(self._faces, FACES)
        return face

    def _label_now(self, pair: Pair, task: Mapping[str, Any], area: _Area) -> str:
        with self._lock:
            remembered = self._answered.get((task.get("id"), area.region_id))
        saved, saved_at = _saved(task)
        if remembered is not None:
            label, at = remembered
            newer_saved = saved_at is not None and saved_at > at
            forgotten = saved is None and time.time() - at > UNSAVED_SECONDS
            if not newer_saved and not forgotten:
                return label
        if saved is not None and area.region_id in saved:
            return saved[area.region_id]
        return CONSISTENT if self._proposed(pair, area) else CONFLICT

    def _proposed(self, pair: Pair, area: _Area) -> bool:
        """Whether the shown proposal keeps most of the area; without one, the whole region is kept."""
        with self._store.reading() as session:
            proposal = latest_proposal(session, pair.id)
        if proposal is None:
            return True
        key = (pair.id, proposal.mask_sha256)
        with self._lock:
            packed = self._kept.get(key)
        if packed is None:
            packed = np.packbits(self._store.mask(proposal.mask_sha256))
            with self._lock:
                self._kept[key] = packed
                _bound(self._kept, FACES)
        both = int(np.bitwise_count(packed & area.packed).sum())
        return 2 * both >= int(np.bitwise_count(area.packed).sum())


@dataclass(frozen=True)
class Click:
    """A click on the reference: `place` is (x, y), each 0 to 1 of the picture's width and height."""

    place: tuple[float, float]
    positive: bool


def newest_click(context: Mapping[str, Any]) -> Click | None:
    """The newest smart keypoint on the reference, or None; what is no click is passed over."""
    entries = context.get("result")
    if not isinstance(entries, list):
        return None
    for entry in reversed(entries):
        if not isinstance(entry, Mapping) or entry.get("type") != "keypointlabels":
            continue
        value = entry.get("value")
        if entry.get("to_name") != "ref" or not isinstance(value, Mapping):
            continue
        place = _share(value.get("x")), _share(value.get("y"))
        if place[0] is not None and place[1] is not None:
            return Click((place[0], place[1]), entry.get("is_positive") is not False)
    return None


def _share(percent: object) -> float | None:
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        return None
    return percent / 100 if 0 <= percent <= 100 else None


def _saved(task: Mapping[str, Any]) -> tuple[dict[str, str] | None, float | None]:
    """Labels of the clicked regions in the newest draft (else annotation), and when it was saved."""
    for name in ("drafts", "annotations"):
        rows = task.get(name)
        found = [
            (moment, row)
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, Mapping) and (moment := _moment(row.get("updated_at"))) is not None
        ]
        if found:
            moment, row = max(found, key=lambda one: one[0])
            return _labels(row.get("result")), moment
    return None, None


def _labels(result: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in result if isinstance(result, list) else []:
        if not isinstance(entry, Mapping) or entry.get("type") != "brushlabels":
            continue
        region_id, value = entry.get("id"), entry.get("value")
        labels = value.get("brushlabels") if isinstance(value, Mapping) else None
        if not isinstance(region_id, str) or not region_id.startswith(PREFIX):
            continue
        if labels in ([CONSISTENT], [CONFLICT]):
            found[region_id] = labels[0]
    return found


def _moment(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _bound(cache: OrderedDict[Any, Any], most: int) -> None:
    while len(cache) > most:
        cache.popitem(last=False)

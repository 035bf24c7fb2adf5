"""The meshes of stored images: found once, kept in memory and beside the images.

What a mesh costs (20 ms) is paid when proposals are made by rule, so that no click waits for it. The
files can be made again at any time and are in no backup.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.analyser import Face, FaceAnalyser, MediapipeAnalyser
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.blobs import write_atomically
from dataset_engine.store.tables import Image

FOLDER: Final = "landmarks"
KEPT: Final = 2048
"""Meshes in memory; each has 4 KB."""
_SHAPE: Final = (478, 2)
_NEAR: Final = 0.5
"""How far from the known five points a face may be, in eye distances, to be the image's."""


def mesh_path(home: Path, sha256: str) -> Path:
    """Where an image's mesh is kept in a home, whether or not it is there."""
    return home / FOLDER / sha256[:2] / f"{sha256}.npy"


class NoAnalyser(RuntimeError):  # noqa: N818 - it names a finding
    """Landmarks cannot be found here; the message says why and what mends it."""


class Landmarks:
    """Finds the 478-point mesh of stored images. Threads may share one.

    Args:
        store: the store; meshes are kept in its home.
        analyser: finds faces; mediapipe's, made at the first image without a kept mesh, otherwise.
    """

    def __init__(self, store: Store, analyser: FaceAnalyser | None = None) -> None:
        self._store = store
        self._analyser = analyser
        self._missing: str | None = None
        self._memory: OrderedDict[str, NDArray[np.float32] | None] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def warm_up(self) -> None:
        """Load the analyser, so that nobody waits for it; where it is missing, nothing happens."""
        with suppress(NoAnalyser):
            self._ready()

    def of(self, image: Image) -> NDArray[np.float32] | None:
        """The mesh of an image, float32 [478, 2] (x, y) px; None where no face is found.

        Raises:
            NoAnalyser: it is not kept yet, and mediapipe is not installed or does not work.
            BlobError: the image's file is missing or damaged.
        """
        with self._lock:
            if image.sha256 in self._memory:
                self._memory.move_to_end(image.sha256)
                return self._memory[image.sha256]
        found = self._kept(image.sha256)
        if found is None:
            found = self._find(image)
        points = found if found.shape == _SHAPE else None
        with self._lock:
            self._memory[image.sha256] = points
            while len(self._memory) > KEPT:
                self._memory.popitem(last=False)
        return points

    def _kept(self, sha256: str) -> NDArray[np.float32] | None:
        try:
            data = mesh_path(self._store.home, sha256).read_bytes()
            points = np.load(io.BytesIO(data), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None  # not there, or cut short: it is made again
        whole = points.shape in (_SHAPE, (0, 2)) and points.dtype == np.float32
        return np.asarray(points, np.float32) if whole else None

    def _find(self, image: Image) -> NDArray[np.float32]:
        """The mesh, or no points [0, 2] where there is no face."""
        analyser = self._ready()
        faces = analyser.analyse(read_rgb(self._store.images.path(image.sha256)))
        face = nearest(faces, image.five_points)
        points = np.zeros((0, 2), np.float32) if face is None else face.landmarks
        data = io.BytesIO()
        np.save(data, points.astype(np.float32), allow_pickle=False)
        write_atomically(mesh_path(self._store.home, image.sha256), data.getvalue())
        return points

    def _ready(self) -> FaceAnalyser:
        with self._making:
            if self._missing is not None:
                raise NoAnalyser(self._missing)
            if self._analyser is None:
                try:
                    self._analyser = _mediapipe()
                except RuntimeError as error:
                    self._missing = str(error)
                    raise NoAnalyser(self._missing) from error
            return self._analyser


@cache
def _mediapipe() -> FaceAnalyser:
    # one a process: loading it costs more than using it
    return MediapipeAnalyser()


def nearest(faces: Sequence[Face], five_points: Sequence[Sequence[float]]) -> Face | None:
    """The face at an image's known five points, whoever else looks in; None where none is near."""
    known = np.asarray(five_points, np.float32)
    reach = _NEAR * float(np.linalg.norm(known[1] - known[0]))
    away = [(float(np.abs(face.five_points - known).max()), face) for face in faces]
    distance, face = min(away, key=lambda one: one[0], default=(np.inf, None))
    return face if distance <= reach else None

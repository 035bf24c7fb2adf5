"""The two ways to a face region, behind one door: the built-in one and a configured parser."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.analyser import Face, FaceAnalyser, NoFace
from dataset_engine.faces.parser import OnnxFaceParser
from dataset_engine.faces.region import face_region


class RegionFinder(Protocol):
    """A way to find the face region of an aligned image."""

    def region(
        self,
        image: NDArray[np.uint8],
        five_points: NDArray[np.float32],
        landmarks: NDArray[np.float32] | None,
    ) -> NDArray[np.bool_]:
        """The face region bool [512, 512] of uint8 RGB [512, 512, 3] with these points.

        Raises:
            NoFace: the finder needs landmarks, none were given, and it found no face.
        """


class MeshRegionFinder:
    """The built-in finder: the mesh's outline refined by colour (`region.face_region`)."""

    def __init__(self, analyser: FaceAnalyser) -> None:
        self._analyser = analyser

    def region(
        self,
        image: NDArray[np.uint8],
        five_points: NDArray[np.float32],
        landmarks: NDArray[np.float32] | None,
    ) -> NDArray[np.bool_]:
        """The face region; without landmarks they are found on the aligned image."""
        if landmarks is None:
            landmarks = _nearest(self._analyser.analyse(image), five_points).landmarks
        return face_region(image, landmarks, self._analyser.person(image))


def region_finder(analyser: FaceAnalyser, parser_weights: Path | None) -> RegionFinder:
    """The configured parser where there are weights, and the built-in finder otherwise.

    Raises:
        ParserError: the weights cannot be used.
    """
    return _load_parser(parser_weights) if parser_weights else MeshRegionFinder(analyser)


@lru_cache(maxsize=1)
def _load_parser(weights: Path) -> OnnxFaceParser:
    """Loads a parser once a process: images are prepared one by one."""
    return OnnxFaceParser(weights)


def _nearest(faces: list[Face], five_points: NDArray[np.float32]) -> Face:
    """The face at these points; NoFace where none is within half an eye distance of them."""
    reach = 0.5 * float(np.linalg.norm(five_points[1] - five_points[0]))
    near = [(float(np.abs(face.five_points - five_points).max()), face) for face in faces]
    distance, face = min(near, key=lambda item: item[0], default=(np.inf, None))
    if face is None or distance > reach:
        raise NoFace("no face found at the given points")
    return face

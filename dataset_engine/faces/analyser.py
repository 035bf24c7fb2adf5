"""Finds faces in a photograph of any size and puts a 478-point mesh on each.

The models are the ones in mediapipe's own wheel, so nothing is downloaded. Each detection
(`detection`) is turned upright and cropped, and the mesh is made on that crop, twice: the second
crop is centred by the first mesh, which takes most of the detector's jitter out of the points.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces.alignment import similarity, transform_points
from dataset_engine.faces.detection import OVERLAPPING, Detection, Detector, overlap
from dataset_engine.faces.quiet import quiet_stderr

DOMINANCE: Final = 1.5
"""How many times the second largest face's area the largest must have to be the picture's face.

1.5 in area is 1.22 in width: a person visibly nearer than the others. Bystanders behind a
portrait pass; people side by side do not."""

_LEFT_EYE: Final = (33, 133, 159, 145, 158, 153, 160, 144)
_RIGHT_EYE: Final = (263, 362, 386, 374, 385, 380, 387, 373)
_NOSE_TIP: Final = 1
_LEFT_MOUTH, _RIGHT_MOUTH = 61, 291
_LANDMARKS: Final = 478

_MESH_SIDE: Final = 384


class NoFace(Exception):  # noqa: N818 - it names a finding
    """No face was found."""


class SeveralFaces(Exception):  # noqa: N818 - it names a finding
    """Several faces of about equal size, so that none is the picture's face."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face in an image; every coordinate is (x, y) px on that image."""

    five_points: NDArray[np.float32]
    """float32 [5, 2]: eye on the image's left, other eye, nose tip, mouth corners left, right."""
    landmarks: NDArray[np.float32]
    """float32 [478, 2]: mediapipe's face mesh with irises."""
    box: NDArray[np.float32]
    """float32 [4]: x0, y0, x1, y1 around the mesh."""
    score: float
    """The detector's confidence, 0 to 1."""

    @property
    def area(self) -> float:
        """Area of the box, px^2."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def eye_distance(self) -> float:
        """Distance of the eyes, px."""
        return float(np.linalg.norm(self.five_points[1] - self.five_points[0]))


class FaceAnalyser(Protocol):
    """What ingest needs of a face analyser."""

    def analyse(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces in uint8 RGB [H, W, 3], largest first."""

    def person(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How likely each pixel belongs to a person, hair included: float32 [H, W], 0 to 1."""


def dominant(faces: list[Face]) -> Face:
    """The picture's one face: the only one, or one at least `DOMINANCE` times the next in area.

    Raises:
        NoFace: the list is empty.
        SeveralFaces: the two largest are of about equal size.
    """
    if not faces:
        raise NoFace("no face found")
    ordered = sorted(faces, key=lambda face: face.area, reverse=True)
    if len(ordered) > 1 and ordered[0].area < DOMINANCE * ordered[1].area:
        near = sum(ordered[0].area < DOMINANCE * face.area for face in ordered)
        raise SeveralFaces(f"{near} faces of about equal size")
    return ordered[0]


def five_points(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The five points of a mesh [478, 2]; float32 [5, 2].

    An eye's point is the middle of its lids and corners, which unlike the iris does not follow
    the gaze.
    """
    return np.stack(
        [
            landmarks[list(_LEFT_EYE)].mean(axis=0),
            landmarks[list(_RIGHT_EYE)].mean(axis=0),
            landmarks[_NOSE_TIP],
            landmarks[_LEFT_MOUTH],
            landmarks[_RIGHT_MOUTH],
        ]
    ).astype(np.float32)


class MediapipeAnalyser:
    """The analyser on mediapipe's bundled models.

    One may be shared by threads: a lock lets one in at a time. A process needs one of its own
    (make it after the fork). Loading takes about a second.

    Args:
        min_score: detections under it are dropped, 0 to 1.

    Raises:
        RuntimeError: mediapipe is not installed or does not work here.
    """

    def __init__(self, min_score: float = 0.5) -> None:
        self._lock = threading.Lock()
        self._meshed = False
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mediapipe uses what protobuf 6 deprecates
            try:
                from mediapipe.python.solutions import (  # noqa: PLC0415 - slow, and may be absent
                    face_detection,
                    face_mesh,
                    selfie_segmentation,
                )
            except ImportError as error:
                raise RuntimeError(
                    f"the face analyser needs mediapipe 0.10.21 ({error}): "
                    "pip install --no-deps mediapipe==0.10.21"
                ) from error
            near: Any = face_detection.FaceDetection(min_score, model_selection=0)
            far: Any = face_detection.FaceDetection(min_score, model_selection=1)
            self._mesh: Any = face_mesh.FaceMesh(
                static_image_mode=True,
                max_num_faces=1,
                refine_landmarks=True,
                min_detection_confidence=0.2,
            )
            self._selfie: Any = selfie_segmentation.SelfieSegmentation(model_selection=0)
            blank = np.zeros((64, 64, 3), dtype=np.uint8)
            self._graphs = (near, far, self._mesh, self._selfie)
            for graph in self._graphs:
                graph.process(blank)  # the first picture is what makes a graph load and talk
            self._detector = Detector(near, far)

    def close(self) -> None:
        """Frees the models; the analyser is of no use afterwards."""
        with self._lock:
            for graph in self._graphs:
                graph.close()

    def analyse(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces in an image.

        Args:
            image: uint8 RGB [H, W, 3] of any size.

        Returns:
            faces, largest first; a detection on which no mesh could be put is left out.
        """
        if min(image.shape[:2]) < 8:
            return []
        with self._lock:
            found = [
                self._mesh_face(image, detection) for detection in self._detector.detect(image)
            ]
        faces = _distinct([face for face in found if face is not None])
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def person(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How likely each pixel belongs to a person, hair included.

        Args:
            image: uint8 RGB [H, W, 3].

        Returns:
            float32 [H, W], 0 to 1.
        """
        with self._lock:
            result = self._selfie.process(np.ascontiguousarray(image))
        return np.asarray(result.segmentation_mask, dtype=np.float32)

    def _mesh_face(self, image: NDArray[np.uint8], detection: Detection) -> Face | None:
        eyes, mouth = detection.points[:2], detection.points[3]
        landmarks = self._mesh_points(image, eyes[0], eyes[1], mouth)
        if landmarks is None:
            return None
        rough = five_points(landmarks).astype(np.float64)
        again = self._mesh_points(image, rough[0], rough[1], rough[3:].mean(axis=0))
        landmarks = landmarks if again is None else again
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        return Face(five_points(landmarks), landmarks, box, detection.score)

    def _mesh_points(
        self,
        image: NDArray[np.uint8],
        left: NDArray[np.float64],
        right: NDArray[np.float64],
        mouth: NDArray[np.float64],
    ) -> NDArray[np.float32] | None:
        """The mesh [478, 2] of the face with these eyes and mouth, made on an upright crop."""
        between = (left + right) / 2
        down = mouth - between
        reach = max(float(np.linalg.norm(right - left)), float(np.linalg.norm(down)), 1e-3)
        along = right - left
        # On a profile the eyes nearly meet and the way to the mouth is the better upright.
        axis = along / max(float(np.linalg.norm(along)), 1e-6)
        if np.linalg.norm(along) < 0.5 * np.linalg.norm(down):
            axis = np.array([down[1], -down[0]]) / np.linalg.norm(down)
        centre = between + 0.5 * down
        half = _MESH_SIDE / 2
        unit = 0.2 * _MESH_SIDE
        to_crop = similarity([centre, centre + axis * reach], [[half, half], [half + unit, half]])
        scale = unit / reach
        crop = _crop(image, to_crop, scale)
        with nullcontext() if self._meshed else quiet_stderr():  # it talks over its first face
            result = self._mesh.process(crop)
        if not result.multi_face_landmarks:
            return None
        self._meshed = True
        points = np.array([(p.x, p.y) for p in result.multi_face_landmarks[0].landmark])
        if points.shape != (_LANDMARKS, 2) or not np.isfinite(points).all():
            return None
        back = np.linalg.inv(np.vstack([to_crop, [0, 0, 1]]))[:2]
        return transform_points(points * _MESH_SIDE - 0.5, back)


def _crop(image: NDArray[np.uint8], matrix: NDArray[np.float64], scale: float) -> NDArray[np.uint8]:
    """The square that `matrix` takes to the crop, reduced without aliasing."""
    size = (_MESH_SIDE, _MESH_SIDE)
    if scale < 0.5:  # bilinear would skip pixels: reduce by a whole factor first
        factor = int(1 / scale)
        height, width = image.shape[:2]
        small = (max(1, width // factor), max(1, height // factor))
        ratio = np.array([width / small[0], height / small[1]])
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        shift = matrix[:, :2] @ ((ratio - 1) / 2) + matrix[:, 2]
        matrix = np.column_stack([matrix[:, :2] * ratio, shift])
    crop = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
    return np.asarray(crop, dtype=np.uint8)


def _distinct(faces: list[Face]) -> list[Face]:
    """Drops a face whose mesh lies on that of a surer one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(overlap(face.box, other.box) < OVERLAPPING for other in kept):
            kept.append(face)
    return kept

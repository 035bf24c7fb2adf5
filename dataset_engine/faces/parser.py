"""The face region from a face-parsing network in an ONNX file, where one is configured.

Any network trained on CelebAMask-HQ's 19 classes will do: an RGB image normalised with
ImageNet's mean and deviation goes in, logits [1, 19, H, W] come out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeGuard

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

CLASSES: Final = 19
"""Background and the 18 parts of CelebAMask-HQ."""

FACE_CLASSES: Final = (1, 2, 3, 4, 5, 6, 10, 11, 12, 13)
"""Skin, brows, eyes, glasses, nose, mouth and lips in the order that BiSeNet face parsers use:
0 background, 1 skin, 2-3 brows, 4-5 eyes, 6 glasses, 7-8 ears, 9 earring, 10 nose, 11 mouth, 12-13
lips, 14 neck, 15 necklace, 16 cloth, 17 hair, 18 hat. Ears and neck are not of the face region."""

_MEAN: Final = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION: Final = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_SIDE: Final = 512


class ParserError(RuntimeError):
    """A weights file that is absent, is not an ONNX network, or does not answer as one should."""


class OnnxFaceParser:
    """Finds face regions with a face-parsing network.

    Args:
        weights: the ONNX file.
        face_classes: the classes that make up the face region, where a network numbers them
            differently.
        threads: threads that one picture may use.

    Raises:
        ParserError: no such file, not an ONNX network, or an output that is not [1, 19, H, W].
    """

    def __init__(
        self, weights: Path, face_classes: tuple[int, ...] = FACE_CLASSES, threads: int = 1
    ) -> None:
        if not face_classes or not set(face_classes) <= set(range(CLASSES)):
            raise ParserError(f"face classes lie between 0 and {CLASSES - 1}, not {face_classes}")
        if not weights.is_file():
            raise ParserError(
                f"{weights}: no such file; give the path of a face parser in ONNX form, or leave "
                "the setting empty for the built-in face region"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(weights), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated classes of its own
            raise ParserError(f"{weights}: not an ONNX network that can be run: {error}") from error
        self._weights = weights
        self._classes = np.array(face_classes)
        self._input, self._size = self._check_input()
        self._logits(np.zeros((_SIDE, _SIDE, 3), dtype=np.uint8))  # fail now, not in mid-batch

    def region(
        self,
        image: NDArray[np.uint8],
        five_points: NDArray[np.float32],
        landmarks: NDArray[np.float32] | None,  # noqa: ARG002 - other finders need them
    ) -> NDArray[np.bool_]:
        """The face region of an aligned image; see `region_finder.RegionFinder`.

        The piece that holds the face's points is taken, so that a neighbour's face stays out.
        Its holes are filled. The region is empty when the network sees no face at those points.

        Raises:
            ParserError: the network failed on this image.
        """
        logits = self._logits(image)
        classes = logits.argmax(axis=0)
        face = np.isin(classes, self._classes).astype(np.uint8)
        height, width = image.shape[:2]
        face = cv2.resize(face * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127
        _, labels = cv2.connectedComponents(face.astype(np.uint8), connectivity=4)
        inside = np.clip(np.rint(five_points), 0, [width - 1, height - 1]).astype(int)
        counts = np.bincount(labels[inside[:, 1], inside[:, 0]], minlength=1)
        counts[0] = 0
        if not counts.any():
            return np.zeros((height, width), dtype=np.bool_)
        piece = (labels == counts.argmax()).astype(np.uint8)
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(piece), contours, -1, 1, cv2.FILLED)
        return np.asarray(filled, dtype=np.bool_)

    def _check_input(self) -> tuple[str, tuple[int, int]]:
        inputs = self._session.get_inputs()
        shape: list[object] = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or (_fixed(shape[1]) and shape[1] != 3):
            raise ParserError(
                f"{self._weights}: a face parser takes one image [1, 3, H, W]; this network takes "
                f"{[item.shape for item in inputs]}"
            )
        height, width = (side if _fixed(side) else _SIDE for side in shape[2:])
        return inputs[0].name, (height, width)

    def _logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [19, H, W] of uint8 RGB [H, W, 3]."""
        height, width = self._size
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        normal = (scaled.astype(np.float32) / 255.0 - _MEAN) / _DEVIATION
        feed = {self._input: np.ascontiguousarray(normal.transpose(2, 0, 1)[None])}
        try:
            outputs = self._session.run(None, feed)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes of its own
            raise ParserError(f"{self._weights}: the network failed: {error}") from error
        # Parsers are often exported with their auxiliary heads; the main one comes first.
        logits = np.asarray(outputs[0])
        if logits.ndim != 4 or logits.shape[:2] != (1, CLASSES):
            raise ParserError(
                f"{self._weights}: a face parser answers with logits [1, {CLASSES}, H, W]; this "
                f"network answered {list(logits.shape)}"
            )
        return np.asarray(logits[0], dtype=np.float32)


def _fixed(side: object) -> TypeGuard[int]:
    return isinstance(side, int) and side > 0

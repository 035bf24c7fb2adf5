"""A face cut out of a photograph for restoration, and the restored face put back where it was."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dataset_engine.faces.alignment import SIZE, TEMPLATE, align, displacement, similarity
from dataset_engine.faces.analyser import Face, FaceAnalyser, NoFace, SeveralFaces, dominant
from dataset_engine.faces.decode import DecodeLimits, ImageTooLarge, UnreadableImage, read_image
from dataset_engine.faces.prepare import Reason, SetAside

Image = NDArray[np.uint8]

SMALLEST_SIDE: Final = 16
"""px; a smaller picture has no face to restore."""
FEW_EYE_PIXELS: Final = 12.0
"""Eye distance, px, under which it is said that the face is tiny."""
ON_TEMPLATE: Final = 40.0
"""How far, px, a detector may see a face of an aligned picture from the template."""
EDGE: Final = 40
"""Width, px on the aligned face, over which a restored face fades into its picture."""


@dataclass(frozen=True, eq=False)
class CutOut:
    """A face, and the way back into its picture."""

    picture: Image
    """uint8 RGB [H, W, 3], upright."""
    aligned: Image
    """uint8 RGB [S, S, 3]; 512 px, or the picture's own size where it is taken as it is."""
    matrix: NDArray[np.float64] | None
    """float64 [2, 3], picture (x, y) px to aligned px; None where the face is the whole picture."""
    notes: tuple[str, ...] = ()

    def paste(self, restored: Image, scale: int = 1) -> Image:
        """The picture with the restored face in it.

        Args:
            restored: uint8 RGB [T, T, 3], the face of `aligned` at any size.
            scale: how many times larger than the picture the answer is; a face that is small in its
                picture keeps its detail then.

        Returns:
            uint8 RGB [scale * H, scale * W, 3].
        """
        height, width = (side * scale for side in self.picture.shape[:2])
        if self.matrix is None:
            return _resized(restored, width, height)
        whole = _resized(self.picture, width, height).copy()
        _blend(whole, restored, self._to_whole(restored.shape[0], scale))
        return whole

    def _to_whole(self, side: int, scale: int) -> NDArray[np.float64]:
        """float64 [3, 3]: px of the restored face to px of the scaled picture."""
        matrix = self.matrix if self.matrix is not None else np.eye(2, 3)
        to_aligned = _scaling(self.aligned.shape[0] / side)
        return _scaling(scale) @ np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ to_aligned


@dataclass(frozen=True)
class CutOutSettings:
    """How faces are looked for."""

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    aligned: bool = False
    """Pictures are aligned faces already: nothing is looked for."""


def cut_out(
    path: Path, analyser: FaceAnalyser | None, settings: CutOutSettings | None = None
) -> CutOut:
    """Read a picture and cut its face out.

    A square picture in which no face is found is taken as an aligned one, and that is noted: badly
    degraded faces are not found, and whoever cut the picture square aligned it.

    Args:
        path: the file.
        analyser: finds faces; may be None where the settings say that all is aligned.
        settings: None for the defaults.

    Raises:
        SetAside: the file cannot be read, or has no face or several.
    """
    settings = settings or CutOutSettings()
    picture = _read(path, settings.limits)
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise SetAside(Reason.TOO_FEW_PIXELS, f"{width}x{height} px")
    notes = _oddities(path)
    if settings.aligned or analyser is None:
        if height != width:
            raise SetAside(Reason.NO_FACE, f"{width}x{height} px: an aligned face is square")
        return CutOut(picture, picture, None, notes)
    faces = analyser.analyse(picture)
    try:
        face = _on_template(faces, picture) or dominant(faces)
    except SeveralFaces as error:
        raise SetAside(Reason.SEVERAL_FACES, str(error)) from error
    except NoFace as error:
        if height != width:
            raise SetAside(Reason.NO_FACE, str(error)) from error
        return CutOut(picture, picture, None, (*notes, "no face found: taken as aligned"))
    if face.eye_distance < FEW_EYE_PIXELS:
        notes = (*notes, f"tiny: {face.eye_distance:.0f} px between the eyes")
    found = align(picture, face.five_points, ON_TEMPLATE / 2)
    whole = found.image is picture
    return CutOut(picture, found.image, None if whole else found.matrix, notes)


def _read(path: Path, limits: DecodeLimits) -> Image:
    try:
        return read_image(path, limits)
    except ImageTooLarge as error:
        raise SetAside(Reason.TOO_LARGE, error.reason) from error
    except UnreadableImage as error:
        raise SetAside(Reason.UNREADABLE, error.reason) from error


def _on_template(faces: list[Face], picture: Image) -> Face | None:
    """In an aligned picture, the face that it was aligned to, whoever else looks in."""
    if picture.shape[:2] != (SIZE, SIZE):
        return None
    near = (
        face for face in faces if displacement(similarity(face.five_points, TEMPLATE)) < ON_TEMPLATE
    )
    return next(near, None)


def _oddities(path: Path) -> tuple[str, ...]:
    """What reading made 8-bit RGB of; the file is known to be readable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PillowImage.open(io.BytesIO(path.read_bytes())) as image:
            mode, raw = image.mode, str(image.tile[0][3]) if image.tile else ""
            transparent = mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    found = []
    if mode in ("1", "L", "LA") or mode.startswith(("I", "F")):
        found.append("grayscale")
    if mode.startswith(("I", "F")) or "16" in raw:
        found.append("16 bits a channel, reduced to 8")
    if transparent:
        found.append("transparency, laid on white")
    return tuple(found)


def _resized(image: Image, width: int, height: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    smaller = width < image.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), dtype=np.uint8)


def _scaling(factor: float) -> NDArray[np.float64]:
    """float64 [3, 3]; pixel centres lie at whole numbers, so a scaled image also shifts."""
    shift = (factor - 1) / 2
    return np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])


def _blend(whole: Image, face: Image, to_whole: NDArray[np.float64]) -> None:
    """Lay a face into a picture, with an edge that fades; only the pixels under it are touched."""
    side = face.shape[0]
    scale = float(np.hypot(to_whole[0, 0], to_whole[1, 0]))
    if scale < 1:  # reduce first, so that nothing aliases
        small = max(8, round(side * scale))
        to_whole = to_whole @ _scaling(side / small)
        face, side = _resized(face, small, small), small
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ to_whole.T
    low = np.maximum(np.floor(corners.min(axis=0))[:2], 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0))[:2] + 1, whole.shape[1::-1]).astype(int)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    if min(size) <= 0:
        return
    warp = to_whole[:2].copy()
    warp[:, 2] -= low
    laid = cv2.warpAffine(face, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    weight = cv2.warpAffine(_soft_edge(side), warp, size, flags=cv2.INTER_LINEAR)[..., None]
    under = whole[low[1] : high[1], low[0] : high[0]]
    mixed = under + (laid.astype(np.float32) - under) * weight
    under[:] = np.clip(np.rint(mixed), 0, 255)


def _soft_edge(side: int) -> NDArray[np.float32]:
    """float32 [S, S]: 1 in the middle, falling smoothly to 0 at the edge."""
    edge = max(2.0, EDGE * side / SIZE)
    away = np.minimum(np.arange(side), np.arange(side)[::-1]) / edge
    ramp = np.clip(away, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)

"""One image file in, everything that the engine keeps of it out; or the reason why it is set aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_engine.faces import quality
from dataset_engine.faces.alignment import (
    SIZE,
    TEMPLATE,
    Aligned,
    DegeneratePoints,
    align,
    displacement,
    similarity,
    transform_points,
    warp_mask,
)
from dataset_engine.faces.analyser import Face, FaceAnalyser, NoFace, SeveralFaces, dominant
from dataset_engine.faces.decode import DecodeLimits, ImageTooLarge, UnreadableImage, read_image
from dataset_engine.faces.region_finder import RegionFinder, region_finder
from dataset_engine.faces.sidecar import BadSidecar, Sidecar, read_sidecar


class Reason(StrEnum):
    """Why an image was set aside."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    BAD_SIDECAR = "bad_sidecar"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    TOO_FEW_PIXELS = "too_few_pixels"
    BLURRED = "blurred"
    BADLY_EXPOSED = "badly_exposed"
    NO_REGION = "no_region"


class SetAside(Exception):  # noqa: N818 - it names a finding
    """An image that is not used, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class PrepareSettings:
    """What an image must be to be used."""

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    """Size limits checked before decoding."""
    parser_weights: Path | None = None
    """ONNX face parser (`parser`) to find face regions with; None for the built-in way."""
    min_eye_distance: float = 32.0
    """Eye distance in the source, px. At 32 the face is enlarged about four times."""
    min_sharpness: float = 0.04
    """See `quality.sharpness`; 0.04 lets a blur of about 3 px pass and sets worse aside."""
    min_bright: float = 24.0
    """95th percentile of the face's luma: below it even the lit parts are black."""
    max_dark: float = 240.0
    """5th percentile of the face's luma: above it even the shadows are white."""
    min_region: float = 0.03
    """Smallest share of the aligned image that the face region may have."""
    aligned_tolerance: float = 20.0
    """How far, px, alignment would have to move any pixel of a 512x512 image for it to be moved.

    Detectors differ among themselves by up to about 10 px on one face, so a picture that somebody
    else aligned is never exactly on the template; warping it again would only soften it."""


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image ready to be stored; coordinates are (x, y) px on the aligned image."""

    image: NDArray[np.uint8]
    """uint8 RGB [512, 512, 3], aligned."""
    five_points: NDArray[np.float32]
    """float32 [5, 2]."""
    landmarks: NDArray[np.float32] | None
    """float32 [478, 2]; None where the source brought its own five points and no landmarks."""
    region: NDArray[np.bool_]
    """bool [512, 512], the face region."""
    phash: str
    """64-bit perceptual hash, 16 hexadecimal digits."""
    sharpness: float
    """See `quality.sharpness`."""
    source_size: tuple[int, int]
    """Width and height of the source after its EXIF orientation, px."""
    eye_distance: float
    """Distance of the eyes in the source, px."""
    warped: bool
    """False where the pixels are the source's own."""


def prepare_image(
    path: Path,
    analyser: FaceAnalyser,
    settings: PrepareSettings | None = None,
    *,
    sidecars: bool = True,
    regions: RegionFinder | None = None,
) -> PreparedImage:
    """Reads, aligns and judges one image.

    Blur and exposure are judged on photographs analysed here; a source that brings its own five
    points vouches for its images.

    Args:
        path: the image file.
        analyser: finds the face.
        settings: limits; None for the defaults.
        sidecars: whether to use the points and the region that lie beside the image.
        regions: finds the face region; None for the one that the settings name.

    Returns:
        the prepared image.

    Raises:
        SetAside: the image cannot be used. Nothing else is raised for bad input.
        ParserError: the settings name a face parser that cannot be used.
    """
    settings = settings or PrepareSettings()
    regions = regions or region_finder(analyser, settings.parser_weights)
    pixels = _read(path, settings)
    height, width = pixels.shape[:2]
    brought = _brought(path, width, height) if sidecars else Sidecar()
    trusted = brought.five_points is not None
    points, landmarks = _locate(pixels, brought, analyser, settings)
    eye_distance = float(np.linalg.norm(points[1] - points[0]))
    if eye_distance < settings.min_eye_distance:
        raise SetAside(
            Reason.TOO_FEW_PIXELS,
            f"{eye_distance:.0f} px between the eyes, under {settings.min_eye_distance:.0f} px",
        )
    aligned = _align(pixels, points, settings, trusted=trusted)
    points = transform_points(points, aligned.matrix)
    if landmarks is not None:
        landmarks = transform_points(landmarks, aligned.matrix)
    region = _region(aligned, points, landmarks, brought, regions)
    if region.mean() < settings.min_region:
        raise SetAside(Reason.NO_REGION, f"the face region is {region.mean():.1%} of the image")
    sharpness = quality.sharpness(aligned.image, region, aligned.scale)
    if not trusted:
        _judge(aligned.image, region, sharpness, settings)
    return PreparedImage(
        image=aligned.image,
        five_points=points,
        landmarks=landmarks,
        region=region,
        phash=quality.perceptual_hash(aligned.image),
        sharpness=sharpness,
        source_size=(width, height),
        eye_distance=eye_distance,
        warped=aligned.image is not pixels,
    )


def _read(path: Path, settings: PrepareSettings) -> NDArray[np.uint8]:
    try:
        return read_image(path, settings.limits)
    except ImageTooLarge as error:
        raise SetAside(Reason.TOO_LARGE, error.reason) from error
    except UnreadableImage as error:
        raise SetAside(Reason.UNREADABLE, error.reason) from error


def _brought(path: Path, width: int, height: int) -> Sidecar:
    try:
        return read_sidecar(path, width, height)
    except BadSidecar as error:
        raise SetAside(Reason.BAD_SIDECAR, str(error)) from error


def _locate(
    pixels: NDArray[np.uint8],
    brought: Sidecar,
    analyser: FaceAnalyser,
    settings: PrepareSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The five points and, where they are known, the landmarks, px on the source."""
    if brought.five_points is not None:
        return brought.five_points, brought.landmarks
    faces = analyser.analyse(pixels)
    try:
        face = _on_template(faces, pixels, settings) or dominant(faces)
    except NoFace as error:
        raise SetAside(Reason.NO_FACE, str(error)) from error
    except SeveralFaces as error:
        raise SetAside(Reason.SEVERAL_FACES, str(error)) from error
    return face.five_points, face.landmarks


def _on_template(
    faces: list[Face], pixels: NDArray[np.uint8], settings: PrepareSettings
) -> Face | None:
    """In an aligned picture, the face that it was aligned to, whoever else looks in."""
    if pixels.shape[:2] != (SIZE, SIZE):
        return None
    for face in faces:
        moved = displacement(similarity(face.five_points, TEMPLATE))
        if moved <= 2 * settings.aligned_tolerance:
            return face
    return None


def _align(
    pixels: NDArray[np.uint8],
    points: NDArray[np.float32],
    settings: PrepareSettings,
    *,
    trusted: bool,
) -> Aligned:
    try:
        if trusted:  # exact points: only what is on the template already stays as it is
            return align(pixels, points)
        return align(pixels, points, settings.aligned_tolerance)
    except DegeneratePoints as error:
        reason = Reason.BAD_SIDECAR if trusted else Reason.NO_FACE
        raise SetAside(reason, f"no alignment: {error}") from error


def _region(
    aligned: Aligned,
    points: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
    brought: Sidecar,
    regions: RegionFinder,
) -> NDArray[np.bool_]:
    if brought.region is not None:
        return warp_mask(brought.region, aligned.matrix)
    try:
        return regions.region(aligned.image, points, landmarks) & aligned.inside
    except NoFace as error:
        raise SetAside(Reason.NO_FACE, f"no landmarks for the face region: {error}") from error


def _judge(
    image: NDArray[np.uint8],
    region: NDArray[np.bool_],
    sharpness: float,
    settings: PrepareSettings,
) -> None:
    lit = quality.exposure(image, region)
    if lit.bright < settings.min_bright:
        raise SetAside(
            Reason.BADLY_EXPOSED, f"the face is black: its lit parts are {lit.bright:.0f}"
        )
    if lit.dark > settings.max_dark:
        raise SetAside(Reason.BADLY_EXPOSED, f"the face is white: its shadows are {lit.dark:.0f}")
    if sharpness < settings.min_sharpness:
        raise SetAside(
            Reason.BLURRED, f"sharpness {sharpness:.3f}, under {settings.min_sharpness:.3f}"
        )

"""The degradation itself: draws parameters, then applies them stage by stage.

I to I_LQ by Real-ESRGAN's second-order model (Wang et al. 2021b) with motion and defocus blur, as the
paper's "Data Engine" and "Training Data" ask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation.draw import draw
from dataset_engine.degradation.filters import Image, convolve
from dataset_engine.degradation.kernels import kernel
from dataset_engine.degradation.noise import add_noise
from dataset_engine.degradation.parameters import FinalParameters, Parameters, StageParameters
from dataset_engine.degradation.settings import DegradationSettings, Interpolation

_INTERPOLATIONS = {
    Interpolation.AREA: cv2.INTER_AREA,
    Interpolation.BILINEAR: cv2.INTER_LINEAR,
    Interpolation.BICUBIC: cv2.INTER_CUBIC,
}


@dataclass(frozen=True)
class Degraded:
    """I_LQ, uint8 RGB of the input's shape, and every value drawn on the way to it."""

    image: NDArray[np.uint8]
    parameters: Parameters


def degrade(image: NDArray[np.uint8], seed: int, settings: DegradationSettings) -> Degraded:
    """Makes a low-quality input of a good photograph.

    The result is a function of the arguments alone: same seed, same bytes, in any process or thread.

    Args:
        image: uint8 RGB [H, W, 3].
        seed: from 0 on.
        settings: probabilities and ranges, for example `preset("paper")`.

    Raises:
        ValueError: the image is not uint8 [H, W, 3] with pixels in it, or the seed is negative.
    """
    _check(image)
    parameters = draw(seed, image.shape[0], image.shape[1], settings)
    return Degraded(apply(image, parameters), parameters)


def apply(image: NDArray[np.uint8], parameters: Parameters) -> NDArray[np.uint8]:
    """Degrades an image by parameters that were drawn before, for one of its size.

    Args:
        image: uint8 RGB [H, W, 3].
        parameters: what `degrade` returned, or `Parameters.from_dict` read.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ValueError: the image is not uint8 [H, W, 3], or of another size than the parameters' input.
    """
    _check(image)
    if image.shape[:2] != (parameters.height, parameters.width):
        raise ValueError(
            f"the parameters were drawn for {parameters.height} x {parameters.width} px (height x "
            f"width), the image has {image.shape[0]} x {image.shape[1]}"
        )
    last = parameters.stages[-1]
    work: Image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for stage in parameters.stages[:-1]:
        work = jpeg(_filmed(work, stage), stage.jpeg)
    work = _filmed(work, last)
    if parameters.final.before_jpeg:
        work = jpeg(_way_back(work, parameters.final), last.jpeg)
    else:
        work = _way_back(jpeg(work, last.jpeg), parameters.final)
    work = _resize(work, image.shape[0], image.shape[1], Interpolation.BICUBIC)
    return np.asarray(cv2.cvtColor(as_uint8(work), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def jpeg(image: Image, quality: int) -> NDArray[np.uint8]:
    """Compresses and reads back a BGR image, 4:2:0, at quality 1-100."""
    done, data = cv2.imencode(".jpg", as_uint8(image), (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise RuntimeError(f"OpenCV cannot write a JPEG of shape {image.shape}")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def as_uint8(image: Image) -> NDArray[np.uint8]:
    """Rounds to whole grey levels and clips to 0-255."""
    if image.dtype == np.uint8:
        return np.asarray(image, dtype=np.uint8)
    # convertScaleAbs saturates at 255 but folds negative values, so these go first.
    return np.asarray(cv2.convertScaleAbs(cv2.threshold(image, 0, 0, cv2.THRESH_TOZERO)[1]))


def _check(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a uint8 image [H, W, 3], got {image.dtype} {image.shape}")


def _filmed(image: Image, stage: StageParameters) -> Image:
    """Blur, resize and noise: all of a stage but its JPEG."""
    if stage.blur is not None:
        image = convolve(image, kernel(stage.blur))
    image = _resize(image, stage.height, stage.width, stage.interpolation)
    if stage.noise is not None:
        image = add_noise(image.astype(np.float32, copy=False), stage.noise)
    return image


def _way_back(image: Image, final: FinalParameters) -> Image:
    image = _resize(image, final.height, final.width, final.interpolation)
    return image if final.sinc is None else convolve(image, kernel(final.sinc))


def _resize(image: Image, height: int, width: int, interpolation: Interpolation) -> Image:
    if image.shape[:2] == (height, width):
        return image
    resized: Image = cv2.resize(
        image, (width, height), interpolation=_INTERPOLATIONS[interpolation]
    )
    return resized

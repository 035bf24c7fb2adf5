"""Gaussian and Poisson noise, coloured or gray, from a seed.

Normal deviates come out of a table of 65,536 quantiles picked by 16 random bits each: twice as fast as
`cv2.randn`, and free of its per-thread state, so that the bytes depend on the seed alone.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation.parameters import GaussianNoise, Noise, PoissonNoise

_BGR_TO_GRAY = (0.114, 0.587, 0.299)
_PHOTONS = 256 / 255  # a white pixel is worth 256 levels of Real-ESRGAN's count, whatever the image
_LEVELS = 2**16
_PIECE = 2**14


def add_noise(image: NDArray[np.float32], noise: Noise) -> NDArray[np.float32]:
    """Adds noise to an image, in place, and clips it to 0-255.

    Args:
        image: float32 [H, W, 3], BGR, 0-255, C-contiguous.
        noise: what was drawn. Poisson noise is taken in its normal approximation: variance in
            proportion to brightness, (level x 255 / 256) x scale^2 in grey levels squared.
    """
    height, width = image.shape[:2]
    if isinstance(noise, GaussianNoise):
        field = normal(noise.seed, (height, width, 1 if noise.gray else 3), noise.sigma)
    else:
        field = normal(noise.seed, (height, width, 1 if noise.gray else 3), noise.scale)
        field *= _photon_deviation(image, noise)
    # Adding one plane to three interleaved channels is ten times slower in NumPy than repeating it.
    image += cv2.merge((field, field, field)) if noise.gray else field
    return np.asarray(np.clip(image, 0, 255, out=image))


def normal(seed: int, shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """Independent normal deviates of standard deviation `sigma`, float32, as `shape` asks.

    The tails end at 4.3 sigma, which one deviate in 60,000 would pass.
    """
    count = int(np.prod(shape))
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4)
    # The byte order is fixed, so that a seed means the same noise on every machine.
    indices = np.asarray(bits).astype("<u8", copy=False).view("<u2")[:count]
    table: NDArray[np.float32] = _quantiles() * np.float32(sigma)
    deviates = np.empty(count, np.float32)
    # In pieces that stay in the cache: NumPy widens the indices to 64 bits before it looks them up.
    for start in range(0, count, _PIECE):
        piece = slice(start, start + _PIECE)
        table.take(indices[piece], out=deviates[piece], mode="clip")
    return deviates.reshape(shape)


def _photon_deviation(image: NDArray[np.float32], noise: PoissonNoise) -> NDArray[np.float32]:
    brightness = image
    if noise.gray:
        brightness = cv2.transform(image, np.array([_BGR_TO_GRAY]))[..., None]
    # Blurring with a sinc may have undershot black, where there is no light to be noisy.
    positive = np.clip(brightness, 0, 255)
    positive /= _PHOTONS
    return np.asarray(cv2.sqrt(positive)).reshape(brightness.shape)


@cache
def _quantiles() -> NDArray[np.float32]:
    half = [NormalDist().inv_cdf((index + 0.5) / _LEVELS) for index in range(_LEVELS // 2)]
    table = np.array([*half, *(-value for value in reversed(half))])
    return np.asarray(table / table.std(), dtype=np.float32)

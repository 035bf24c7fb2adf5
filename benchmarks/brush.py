"""Brush RLE side by side: label_studio_sdk's converter and annotator.brush, in ms and ratios."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import cv2
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from rich.console import Console
from rich.table import Table

from annotator.brush import decode_mask, encode_mask

ENCODE_GOAL = {"face": 10, "ragged": 25, "noise": 25}
DECODE_GOAL = 30


def masks(side: int = 512) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    face = ((x / 0.3) ** 2 + (y / 0.4) ** 2 < 1) & ~((x / 0.1) ** 2 + ((y - 0.2) / 0.05) ** 2 < 1)
    ragged = cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), 2) > 0
    return {"face": face, "ragged": ragged, "noise": rng.random((side, side)) > 0.5}


def median_ms(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main() -> None:
    table = Table(title=f"Brush RLE, 512 x 512, ms (median), {platform.processor() or 'CPU'}")
    for column in ("mask", "bytes", "SDK enc", "ours", "ratio", "SDK dec", "ours", "ratio", "goal"):
        table.add_column(column, justify="right")
    met = True
    for name, mask in masks().items():
        grey = mask.astype(np.uint8) * 255
        rle = encode_mask(mask)
        assert rle == mask2rle(grey)
        assert np.array_equal(decode_mask(rle, *mask.shape), mask)
        slow = 5 if name != "face" else 20
        peer_encode = median_ms(lambda grey=grey: mask2rle(grey), slow)
        own_encode = median_ms(lambda mask=mask: encode_mask(mask), 100)
        peer_decode = median_ms(
            lambda rle=rle: decode_rle(rle).reshape(512, 512, 4)[..., 3] > 127, slow
        )
        own_decode = median_ms(lambda rle=rle: decode_mask(rle, 512, 512), 100)
        encode, decode = peer_encode / own_encode, peer_decode / own_decode
        met &= encode >= ENCODE_GOAL[name] and decode >= DECODE_GOAL
        table.add_row(
            name,
            f"{len(rle):,}",
            f"{peer_encode:.2f}",
            f"{own_encode:.3f}",
            f"{encode:.0f}x",
            f"{peer_decode:.2f}",
            f"{own_decode:.3f}",
            f"{decode:.0f}x",
            f"{ENCODE_GOAL[name]}x / {DECODE_GOAL}x",
        )
    Console().print(table)
    if not met:
        raise SystemExit("a ratio is under its goal")


if __name__ == "__main__":
    main()

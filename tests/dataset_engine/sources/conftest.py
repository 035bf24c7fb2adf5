"""Faces that cost nothing: a file's text says which picture it is, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.faces.prepare import PreparedImage, PrepareSettings, Reason, SetAside
from dataset_engine.faces.quality import perceptual_hash


def prepare(path: Path, _analyser: object, _settings: PrepareSettings) -> PreparedImage:
    """The picture of a number; a reason's name in the file is the reason to set it aside."""
    text = path.read_text()
    if text in tuple(Reason):
        raise SetAside(Reason(text), f"it is {text}")
    random = np.random.default_rng(int(text))
    small = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    region = np.zeros((512, 512), np.bool_)
    region[100:400, 120:390] = True
    return PreparedImage(
        image=image,
        five_points=np.zeros((5, 2), np.float32),
        landmarks=None,
        region=region,
        phash=perceptual_hash(image),
        sharpness=0.3,
        source_size=(512, 512),
        eye_distance=126.0,
        warped=False,
    )


@pytest.fixture
def cheap_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_engine.preparing._analyser", lambda: None)
    monkeypatch.setattr("dataset_engine.preparing.prepare_image", prepare)


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """`put("a/b.jpg", 7)` makes a file that is picture 7."""

    def make(name: str, text: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
        return path

    return make

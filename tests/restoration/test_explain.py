from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.backbones import TinyBackbone
from models.pipeline import RefStarPipeline
from models.prompts import PlainPrompt
from models.reference_features import AttentionForm, ReferenceAttentionSettings
from models.restorer import Restorer, RestorerConfig
from restoration.explain.attention import AttentionMap, pool_keys, pool_queries, watched
from restoration.explain.page import packed
from restoration.explain.run import explain, trained_size

TINY = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8)


def make_pipeline(form: AttentionForm = AttentionForm.DECOUPLED) -> RefStarPipeline:
    torch.manual_seed(0)
    attention = ReferenceAttentionSettings(form=form, position_sigmas=(0.5, 0.5))
    config = RestorerConfig(timestep=250, lora=None, attention=attention)
    restorer = Restorer(TINY.unet(), TINY.autoencoder(), config)
    restorer.add_reference()
    for name, parameter in restorer.named_parameters():
        if name.startswith("reference_attention") and ".to_out." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return RefStarPipeline(restorer.eval().requires_grad_(False), PlainPrompt(TINY.prompt()))


@pytest.fixture
def faces(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.png" for name in ("lq", "ref", "mask", "gt", "nothing")}
    random = np.random.default_rng(0)
    for name in ("lq", "ref", "gt"):
        small = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(paths[name]), cv2.resize(small, (96, 96)))
    mask = np.zeros((96, 96), np.uint8)
    mask[:, :48] = 255
    cv2.imwrite(str(paths["mask"]), mask)
    cv2.imwrite(str(paths["nothing"]), mask * 0)
    return paths


def test_weights_stay_under_the_mask_lie_near_by_and_fade_where_nothing_near_is_kept(
    faces, tmp_path
):
    pipeline = make_pipeline()
    page = tmp_path / "made" / "why.html"
    found = explain(pipeline, faces["lq"], faces["ref"], page, mask=faces["mask"])
    assert trained_size(pipeline.restorer) == found.restored.shape[0] == 32
    finest = found.maps[0]
    assert finest.side == 8
    found_near = finest.weights.sum(axis=1).reshape(8, 8)
    assert found_near[:, :2] == pytest.approx(1, abs=1e-4)
    assert found_near[:, 6:] == pytest.approx(0, abs=1e-4)
    under = finest.weights.reshape(64, 8, 8)
    assert under[:, :, 4:].max() == 0
    # Sigma is half a token, so a place in the left half looks at its own place.
    place = 3 * 8 + 2
    assert finest.weights[place].argmax() == place
    share = finest.share.reshape(8, 8)
    assert 0.01 < share[:, :3].min() <= share[:, :3].max() < 1
    assert share[:, 6:].max() < 0.01
    text = page.read_text()
    assert "https://" not in text
    assert text.count("data:image/png;base64,") == 6


def test_watching_changes_nothing_and_ends(faces):
    pipeline = make_pipeline()
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    mask = np.ones((32, 32), bool)
    before = pipeline(image, image, mask)
    with watched(pipeline.restorer) as watch:
        assert (pipeline(image, image, mask) == before).all()
    seen = watch.maps()[0].layers
    pipeline(image, image, mask)
    assert watch.maps()[0].layers == seen > 0


def test_an_empty_mask_and_eq_3_are_told_as_they_are(faces, tmp_path):
    page = tmp_path / "why.html"
    nothing = explain(make_pipeline(), faces["lq"], faces["ref"], page, mask=faces["nothing"])
    assert nothing.maps[0].weights.max() == 0
    assert nothing.maps[0].share.max() == 0
    assert (nothing.restored == nothing.alone).all()
    joined = explain(
        make_pipeline(AttentionForm.CONCATENATED),
        faces["lq"],
        faces["ref"],
        page,
        mask=faces["mask"],
        truth=faces["gt"],
    )
    sums = joined.maps[0].weights.sum(axis=1)
    assert sums.max() < 1
    assert sums.min() > 0
    assert joined.truth.shape == (32, 32, 3)


def test_pooling_keeps_what_was_looked_at():
    weights = torch.rand(16, 16).softmax(dim=1)
    pooled = pool_queries(pool_keys(weights, 2), 2)
    assert pooled.shape == (4, 4)
    assert pooled.sum(dim=1).tolist() == pytest.approx([1] * 4)
    corner = weights[[0, 1, 4, 5]][:, [0, 1, 4, 5]].sum() / 4
    assert float(pooled[0, 0]) == pytest.approx(float(corner))
    assert pool_queries(torch.arange(16.0), 2).tolist() == [2.5, 4.5, 10.5, 12.5]


def test_rows_are_packed_over_their_own_peak():
    weights = np.array([[0.5, 0.25], [0, 0]], np.float32)
    values = packed(AttentionMap(1, weights, np.array([0.5], np.float32), 2))
    assert list(base64.b64decode(values["weights"])) == [255, 128, 0, 0]
    assert values["peaks"] == [0.5, 0]


def test_what_cannot_be_explained_is_refused_with_the_mend(faces, tmp_path):
    page = tmp_path / "why.html"
    pipeline = make_pipeline()
    with pytest.raises(ValueError, match="give a mask"):
        explain(pipeline, faces["lq"], faces["ref"], page)
    long = tmp_path / "long.png"
    cv2.imwrite(str(long), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="64x32 px and so not aligned"):
        explain(pipeline, long, faces["ref"], page, mask=faces["mask"])
    with pytest.raises(ValueError, match="cannot be read"):
        explain(pipeline, tmp_path / "no.png", faces["ref"], page, mask=faces["mask"])
    first = Restorer(TINY.unet(), TINY.autoencoder(), replace(pipeline.restorer.config))
    with pytest.raises(ValueError, match="Phase I"):
        explain(RefStarPipeline(first, pipeline.prompt), faces["lq"], faces["ref"], page)
    assert not page.exists()

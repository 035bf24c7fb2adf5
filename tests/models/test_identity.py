from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.identity import ALIGNED_POINTS, ARCFACE_POINTS, ArcFace, OnnxArcFace, arcface_crop
from models.iresnet import IResNet, open_iresnet
from models.refsel import CheckpointError


@pytest.mark.parametrize(
    ("depth", "parameters", "tensors"),
    [(18, 24_025_600, 156), (50, 43_590_848, 396), (100, 65_156_160, 771)],
)
def test_the_published_sizes_of_arcface(depth, parameters, tensors):
    with torch.device("meta"):
        network = IResNet(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    state = [n for n in network.state_dict() if not n.endswith("num_batches_tracked")]
    assert len(state) == tensors


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (64, 3, 3, 3)),
        ("bn1.running_mean", (64,)),
        ("prelu.weight", (64,)),
        ("layer1.0.bn1.weight", (64,)),
        ("layer1.0.conv1.weight", (64, 64, 3, 3)),
        ("layer1.0.downsample.0.weight", (64, 64, 1, 1)),
        ("layer1.0.downsample.1.running_var", (64,)),
        ("layer2.3.prelu.weight", (128,)),
        ("layer3.13.bn3.bias", (256,)),
        ("layer4.2.conv2.weight", (512, 512, 3, 3)),
        ("bn2.weight", (512,)),
        ("fc.weight", (512, 25088)),
        ("features.running_mean", (512,)),
    ],
)
def test_arcfaces_published_names_and_shapes(name, shape):
    with torch.device("meta"):
        state = IResNet(50).state_dict()
    assert tuple(state[name].shape) == shape


def test_published_weights_fill_the_network_of_their_depth_alone(tmp_path):
    torch.manual_seed(0)
    state = {
        name: tensor
        for name, tensor in IResNet(18).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(state, tmp_path / "backbone.pth")
    save_file(state, tmp_path / "backbone.safetensors")
    for name in ("backbone.pth", "backbone.safetensors"):
        opened = open_iresnet(tmp_path / name, 18)
        assert not opened.training
        assert torch.equal(opened.fc.weight, state["fc.weight"])
        assert not any(parameter.requires_grad for parameter in opened.parameters())
    with pytest.raises(CheckpointError, match="does not fit IResNet"):
        open_iresnet(tmp_path / "backbone.pth", 50)
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_iresnet(tmp_path / "absent.pth", 18)


@pytest.mark.parametrize("side", [64, 128, 512])
def test_the_crop_brings_the_five_points_to_arcfaces_places(side):
    # A similarity cannot bring five points to five others exactly, so the nearest one is taken.
    a, b = np.array(ALIGNED_POINTS) @ [1, 1j], np.array(ARCFACE_POINTS) @ [1, 1j]
    a0, b0 = a.mean(), b.mean()
    for point, aligned in zip(a, ALIGNED_POINTS, strict=True):
        fitted = (point - a0) * np.vdot(a - a0, b - b0) / np.vdot(a - a0, a - a0) + b0
        image = torch.zeros(1, 3, side, side)
        x, y = ((np.array(aligned) + 0.5) * side / 512 - 0.5).tolist()
        ys, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        spread = max(1.0, side / 128)
        image[:] = (-((xs - x) ** 2 + (ys - y) ** 2) / (2 * spread**2)).exp()
        spot = (arcface_crop(image)[0, 0] + 1) / 2
        total = spot.sum()
        found_x = float((spot.sum(0) * torch.arange(112)).sum() / total)
        found_y = float((spot.sum(1) * torch.arange(112)).sum() / total)
        assert (found_x, found_y) == pytest.approx((fitted.real, fitted.imag), abs=0.25)


def test_the_crop_is_in_minus_one_to_one_and_differentiable():
    image = torch.full((1, 3, 256, 256), 0.75, requires_grad=True)
    crop = arcface_crop(image)
    assert crop.shape == (1, 3, 112, 112)
    assert float(crop[0, 0, 56, 56].detach()) == pytest.approx(0.5, abs=1e-5)
    crop.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_identity_is_a_unit_vector_and_stays_in_evaluation_mode():
    torch.manual_seed(0)
    arcface = ArcFace(IResNet(18)).train()
    assert not arcface.network.training
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    embedding = arcface(images)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)
    embedding[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_the_onnx_model_sees_the_same_crop_as_the_differentiable_one(tmp_path, arcface_stand_in):
    weight = np.random.default_rng(0).standard_normal((48, 512)).astype(np.float32)
    (tmp_path / "small.onnx").write_bytes(arcface_stand_in(weight))
    images = torch.rand(3, 3, 128, 128)
    colours = nn.functional.avg_pool2d(arcface_crop(images), 28).flatten(1)
    expected = nn.functional.normalize(colours @ torch.from_numpy(weight), dim=1)
    assert torch.allclose(OnnxArcFace(tmp_path / "small.onnx")(images), expected, atol=1e-5)


def test_an_onnx_model_that_is_no_arcface_is_refused(tmp_path, arcface_stand_in):
    (tmp_path / "other.onnx").write_bytes(arcface_stand_in(np.zeros((48, 128), np.float32)))
    with pytest.raises(CheckpointError, match="give insightface's ArcFace"):
        OnnxArcFace(tmp_path / "other.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    for name in ("broken.onnx", "absent.onnx"):
        with pytest.raises(CheckpointError, match="cannot be opened"):
            OnnxArcFace(tmp_path / name)

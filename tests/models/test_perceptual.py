from __future__ import annotations

import pytest
import torch
import torchvision

from models.perceptual import LAYER_WEIGHTS, VGG19, PerceptualDistance, open_vgg19
from models.refsel import CheckpointError


def test_the_convolutions_are_torchvisions_by_name_and_shape():
    with torch.device("meta"):
        theirs = torchvision.models.vgg19(weights=None).state_dict()
        ours = VGG19().state_dict()
    features = {name: t.shape for name, t in theirs.items() if name.startswith("features.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == features


def test_features_are_read_before_their_relu():
    torch.manual_seed(0)
    network = VGG19()
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"], batch_norm=False)
    theirs.load_state_dict(network.features.state_dict())
    images = torch.rand(1, 3, 32, 32)
    found = network(images)
    assert list(found) == list(LAYER_WEIGHTS)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for name, place in {"conv1_2": 2, "conv3_4": 16, "conv5_4": 34}.items():
        assert torch.allclose(found[name], theirs[: place + 1]((images - mean) / std), atol=1e-5)
        assert float(found[name].min()) < 0


def test_the_distance_is_the_weighted_l1_and_differentiable():
    torch.manual_seed(0)
    network = VGG19()
    distance = PerceptualDistance(network)
    images, target = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    a, b = network(images), network(target)
    expected = sum(w * (a[name] - b[name]).abs().mean() for name, w in LAYER_WEIGHTS.items())
    loss = distance(images, target)
    assert torch.allclose(loss, expected, atol=1e-6)
    loss.backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert float(distance(target, target)) == 0.0


def test_torchvisions_weights_fill_it_and_others_are_refused(tmp_path):
    torch.manual_seed(0)
    state = {name: torch.randn(t.shape) for name, t in VGG19().state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg19.pth")
    opened = open_vgg19(tmp_path / "vgg19.pth")
    assert torch.equal(opened.features[34].weight, state["features.34.weight"])
    assert not any(parameter.requires_grad for parameter in opened.parameters())
    del state["features.34.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit VGG19"):
        open_vgg19(tmp_path / "other.pth")

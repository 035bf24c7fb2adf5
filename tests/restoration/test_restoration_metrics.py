"""Metrics: golden values on what works offline, stand-ins for published weights, and honest cells."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restoration.metric_tools import MetricWeights, Tool, Tools, open_lpips, open_tools
from restoration.metrics import Face, Metric, colour_error, measure

SIDE = 64


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(30, 220, (8, 8, 3)), np.ones((side // 8, side // 8, 1))).astype(
        np.uint8
    )


class MeanColours(nn.Module):
    """A stand-in for a network: the colours of a coarse grid."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


def unit_vectors(images: Tensor) -> Tensor:
    return nn.functional.normalize(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) - 0.5)


@pytest.fixture
def bare(tmp_path: Path) -> Tools:
    return open_tools(MetricWeights.in_folder(tmp_path / "weights"))


def faces(count: int, shift: int = 10) -> list[Face]:
    region = np.zeros((SIDE, SIDE), np.bool_)
    region[16:48, 16:48] = True
    made = []
    for number in range(count):
        truth = picture(number)
        other = truth.copy()
        other[:8] += np.uint8(shift)
        made.append(
            Face(str(number), {"same": truth, "off": other}, truth, picture(99 + number), region)
        )
    return made


def test_golden_values_of_what_needs_no_weights(bare: Tools) -> None:
    off = measure(faces(3), bare)["off"].cells
    # An eighth of the rows is wrong by 10 of 255 levels: 20 log10(255 / 10) + 10 log10(8).
    assert off[Metric.PSNR].value == pytest.approx(28.1308 + 9.0309, abs=1e-3)
    assert off[Metric.FACE_PSNR].value == 100
    assert off[Metric.PSNR].faces == 3
    assert set(off[Metric.PSNR].per_face) == {"0", "1", "2"}


def test_golden_ssim_of_even_greys(bare: Tools) -> None:
    dark, light = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (128, 149))
    a, b = 128 / 255, 149 / 255
    wanted = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)  # Wang et al. 2004 without any variance
    cells = measure([Face("grey", {"m": light}, dark)], bare)["m"].cells
    assert cells[Metric.SSIM].value == pytest.approx(wanted, abs=1e-3)


def test_an_image_that_is_its_truth_has_the_best_scores(bare: Tools) -> None:
    same = measure(faces(2), bare)["same"].cells
    assert same[Metric.PSNR].value == 100
    assert same[Metric.SSIM].value == pytest.approx(1, abs=1e-5)
    assert same[Metric.COLOUR].value == 0


def test_colour_error_counts_drift_and_not_detail() -> None:
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    # Greys differ in lightness alone: L* is 53.585 at 128 and 61.654 at 149 of 255.
    assert colour_error(grey + np.uint8(21), grey) == pytest.approx(8.068, abs=0.05)
    stripes = grey.copy()
    stripes[::2] += np.uint8(40)
    stripes[1::2] -= np.uint8(40)
    assert colour_error(stripes, grey) < 0.5
    half = grey.copy()
    half[:, :32] += np.uint8(21)
    region = np.zeros((SIDE, SIDE), np.bool_)
    region[:, 40:] = True
    assert colour_error(half, grey, region) == 0


def test_absent_weights_say_so_in_the_cell_and_nothing_takes_their_place(bare: Tools) -> None:
    cells = measure(faces(2), bare)["off"].cells
    for metric, file in {
        Metric.LPIPS: "alexnet-owt-7be5be79.pth",
        Metric.FID: "weights-inception-2015-12-05-6726825d.pth",
        Metric.ID_GT: "arcface.onnx",
        Metric.ID_REF: "arcface.onnx",
        Metric.MUSIQ: "musiq_koniq_ckpt-e95806b9.pth",
    }.items():
        assert cells[metric].value is None
        assert f"weights absent: put {file} into" in cells[metric].missing
        assert not cells[metric].per_face


def test_broken_weights_say_so_too(tmp_path: Path) -> None:
    weights = MetricWeights.in_folder(tmp_path)
    for path in (weights.alexnet, weights.inception, weights.arcface):
        path.write_bytes(b"nothing")
    tools = open_tools(weights)
    for tool in (tools.lpips, tools.inception, tools.arcface):
        assert tool.network is None
        assert "cannot be" in tool.missing


def test_a_set_without_truths_says_which_numbers_need_one(bare: Tools) -> None:
    real = [Face(str(n), {"method": picture(n)}, reference=picture(n + 1)) for n in range(2)]
    cells = measure(real, bare)["method"].cells
    assert cells[Metric.PSNR].missing == "no ground truth"
    assert cells[Metric.FACE_PSNR].missing == "no face region"


def test_identity_is_a_cosine_times_100_against_truth_and_reference(bare: Tools) -> None:
    tools = replace(bare, arcface=Tool(unit_vectors, file="stand-in", sha256="00"))
    (face,) = faces(1)
    cells = measure([face], tools)["same"].cells
    assert cells[Metric.ID_GT].value == pytest.approx(100, abs=1e-4)
    truth, reference = (
        unit_vectors(torch.from_numpy(one).permute(2, 0, 1)[None] / 255)
        for one in (face.truth, face.reference)
    )
    wanted = 100 * float((truth * reference).sum())
    assert cells[Metric.ID_REF].value == pytest.approx(wanted, abs=1e-3)
    assert cells[Metric.ID_REF].definition.sha256 == "00"


def test_fid_is_torchmetrics_own_and_sees_every_truth_once(bare: Tools) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = MeanColours()
    tools = replace(bare, inception=Tool(network, file="stand-in", sha256="00"))
    chosen = faces(20, shift=35)
    scores = measure(chosen, tools)
    assert network.seen == 20 * 3  # truths once, and each of two methods
    plain = FrechetInceptionDistance(feature=MeanColours())
    for face in chosen:
        levels = [
            torch.from_numpy(one).permute(2, 0, 1)[None]
            for one in (face.truth, face.restored["off"])
        ]
        plain.update(levels[0], real=True)
        plain.update(levels[1], real=False)
    wanted = float(plain.compute())
    assert wanted > 1
    assert scores["off"].cells[Metric.FID].value == pytest.approx(wanted, rel=1e-3)
    assert scores["same"].cells[Metric.FID].value == pytest.approx(0, abs=wanted / 100)


def test_fid_may_be_measured_against_another_set(bare: Tools) -> None:
    tools = replace(bare, inception=Tool(MeanColours(), file="stand-in", sha256="00"))
    chosen = [replace(face, truth=None) for face in faces(12)]
    assert measure(chosen, tools)["same"].cells[Metric.FID].value is None
    scores = measure(chosen, tools, real=[picture(n) for n in range(12)])
    assert scores["same"].cells[Metric.FID].value == pytest.approx(0, abs=5)


def test_lpips_takes_torchvisions_alexnet_and_agrees_with_torchmetrics(tmp_path: Path) -> None:
    from torchmetrics.functional.image.lpips import _LPIPS
    from torchvision.models import alexnet

    torch.manual_seed(0)
    features = alexnet(weights=None).features
    path = tmp_path / "alexnet.pth"
    torch.save({f"features.{name}": t for name, t in features.state_dict().items()}, path)
    ours = open_lpips(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _LPIPS(net="alex", pnet_rand=True).eval()
    state = {
        name: features.state_dict()[name.partition(".")[2]] for name in theirs.net.state_dict()
    }
    theirs.net.load_state_dict(state)
    first, second = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    wanted = theirs(first, second, normalize=True).flatten()
    assert torch.allclose(ours(first, second), wanted, atol=1e-5)
    assert ours(first, first).abs().max() < 1e-6


def test_every_cell_says_how_its_number_is_made(bare: Tools) -> None:
    for cell in measure(faces(1), bare)["off"].cells.values():
        definition = cell.definition
        assert definition.library
        assert definition.colour_space
        assert definition.crop
        assert definition.resize


def test_images_that_do_not_fit_are_refused_by_name(bare: Tools) -> None:
    with pytest.raises(ValueError, match="odd: its images must be uint8"):
        measure([Face("odd", {"a": picture(0)}, picture(0, 128))], bare)
    with pytest.raises(ValueError, match="twice"):
        measure([Face("a", {"m": picture(0)}), Face("a", {"m": picture(0)})], bare)

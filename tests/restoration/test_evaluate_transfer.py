"""What the test of transfer counts, and that it tells copying from guessing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch

from dataset_engine.shards import Triplet, write_version
from dataset_engine.shards.reader import RefSelSample
from dataset_engine.taxonomy import Split, Status
from models.backbones import TinyBackbone
from models.pipeline import RefStarPipeline
from models.prompts import PlainPrompt
from models.reference_features import ReferenceAttentionSettings
from models.refsel import CheckpointError
from models.restorer import Restorer, RestorerConfig
from restoration.evaluate_transfer.cases import held_out_cases, strangers
from restoration.evaluate_transfer.conditions import Condition, restore_all
from restoration.evaluate_transfer.recovery import (
    agreement,
    hidden,
    high_pass,
    leak,
    levels,
    mark_pixels,
)
from restoration.evaluate_transfer.run import (
    REPORT_NAME,
    SHEET_NAME,
    TransferTest,
    evaluate_transfer,
)
from restoration.evaluate_transfer.sheet import chosen_rows
from restoration.evaluate_transfer.summary import summarise
from restoration.refstar_config import FaceData

DATA = FaceData(size=32, degradation="codeformer-large", workers=0)
SPOT = np.s_[240:272, 240:272]


@dataclass(frozen=True)
class Known:
    marks: np.ndarray
    glasses: np.ndarray


def face(person: int, shot: int = 0) -> np.ndarray:
    """Smooth skin of a person's own colours, with a dark spot in the middle."""
    rng = np.random.default_rng(person)
    small = rng.integers(110, 190, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
    image[SPOT] //= 4
    return np.asarray(np.minimum(image.astype(int) + 8 * shot, 255), np.uint8)


class Faces:
    """Pairs of `people` people, two each."""

    def __init__(self, people: int) -> None:
        self.people = people

    def __len__(self) -> int:
        return 2 * self.people

    def __getitem__(self, index: int, /) -> RefSelSample:
        person, turn = divmod(index, 2)
        region = np.zeros((512, 512), bool)
        region[64:448, 64:448] = True
        mask = region.copy()
        mask[64:128] = False
        return RefSelSample(
            face(person, turn),
            face(person, 1 - turn),
            mask,
            region,
            region,
            f"person-{person}-{turn}",
            f"person-{person}",
            (),
        )


def known(sample: RefSelSample) -> Known:
    marks, glasses = np.zeros((2, 512, 512), bool)
    marks[SPOT] = True
    glasses[80:120, 160:352] = True
    del sample
    return Known(marks, glasses)


@pytest.fixture
def pipeline() -> RefStarPipeline:
    torch.manual_seed(0)
    tiny = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8)
    config = RestorerConfig(
        timestep=250,
        lora=None,
        attention=ReferenceAttentionSettings(position_sigmas=(0.5, 1.0)),
    )
    restorer = Restorer(tiny.unet(), tiny.autoencoder(), config)
    restorer.add_reference()
    assert restorer.reference_attention is not None
    for projection in restorer.reference_attention.values():
        torch.nn.init.normal_(projection.to_out.weight, std=0.2)
    return RefStarPipeline(restorer, PlainPrompt(tiny.prompt()))


def test_recovery_counts_marks_and_neither_light_nor_skin_colour():
    truth = levels(cv2.resize(face(1), (64, 64), interpolation=cv2.INTER_AREA))
    where = np.zeros((64, 64), bool)
    where[26:38, 26:38] = True
    brighter = agreement([truth * 0.5 + 0.3], [truth], [where])
    assert brighter.correlation == pytest.approx(1, abs=1e-4)
    assert brighter.contrast == pytest.approx(0.5, abs=1e-3)
    blurred = cv2.GaussianBlur(truth, (0, 0), 12)
    assert agreement([blurred], [truth], [where]).contrast < 0.1
    flat = agreement([np.full_like(truth, 0.5)], [truth], [where])
    assert (flat.correlation, flat.contrast) == (0.0, 0.0)
    assert np.isnan(agreement([truth], [truth], [np.zeros_like(where)]).correlation)
    assert abs(float(high_pass(truth + 0.2).sum() - high_pass(truth).sum())) < 1e-2


def test_a_mark_counts_only_where_the_input_hides_it():
    truth = levels(cv2.resize(face(1), (64, 64), interpolation=cv2.INTER_AREA))
    where = np.zeros((64, 64), bool)
    where[26:38, 26:38] = True
    assert hidden(cv2.GaussianBlur(truth, (0, 0), 12), truth, where)
    assert not hidden(truth, truth, where)
    assert not hidden(truth, np.full_like(truth, 0.5), where)
    assert not hidden(np.full_like(truth, 0.5), truth, np.zeros_like(where))


def test_marks_get_a_rim_and_end_where_the_reference_may_not_be_used():
    marks = np.zeros((512, 512), bool)
    marks[256:264, 256:264] = True
    usable = np.ones((64, 64), bool)
    usable[:32] = False
    place = mark_pixels(marks, usable, 64)
    assert place.sum() == 6
    assert place[32:34, 31:34].all()


def test_a_leak_is_the_share_of_the_references_own_that_came_through():
    rng = np.random.default_rng(0)
    alone, reference = rng.random((2, 32, 32, 3), np.float32)
    where = np.zeros((32, 32), bool)
    where[8:16, 4:28] = True
    half = alone + 0.5 * (reference - alone)
    assert leak([alone], [alone], [reference], [where]) == 0
    assert leak([half], [alone], [reference], [where]) == pytest.approx(0.5, abs=1e-5)
    assert np.isnan(leak([half], [alone], [reference], [~where & where]))


def test_cases_are_the_same_every_time_and_keep_the_reviewed_mask():
    first, again = (list(held_out_cases(Faces(3), 4, DATA, 5, known)) for _ in range(2))
    assert len(first) == 4
    assert all(
        np.array_equal(a.face.degraded, b.face.degraded) for a, b in zip(first, again, strict=True)
    )
    # The first row of M is a conflict, however little of the face the input shows.
    assert not any(case.face.mask[4:8].any() for case in first)
    assert any(case.marks.any() for case in first)
    assert all(case.glasses.any() and not (case.glasses & case.face.mask).any() for case in first)
    blind = list(held_out_cases(Faces(3), 4, DATA, 5, None))
    assert not any(case.marks.any() or case.glasses.any() for case in blind)


def test_a_stranger_is_never_the_same_person():
    cases = list(held_out_cases(Faces(3), 6, DATA, 0, None))
    assert all(a.identity != b.identity for a, b in zip(cases, strangers(cases), strict=True))
    with pytest.raises(ValueError, match="one person"):
        strangers(cases[:2])


def test_an_all_zeros_mask_is_phase_one_and_the_others_are_not(pipeline):
    cases = list(held_out_cases(Faces(3), 6, DATA, 0, known))
    (batch,) = restore_all(pipeline, cases, strangers(cases), 6)
    alone = batch.images[Condition.PHASE_ONE]
    assert batch.refsel is None
    assert Condition.REFSEL not in batch.images
    assert np.array_equal(batch.images[Condition.ZEROS], alone)
    for condition in (Condition.REVIEWED, Condition.ONES, Condition.STRANGER):
        assert not np.array_equal(batch.images[condition], alone)


def test_a_perfect_copy_scores_as_one_and_a_guess_does_not():
    cases = list(held_out_cases(Faces(3), 6, DATA, 0, known))
    truth = np.stack([levels(case.face.truth) for case in cases])
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 6) for one in truth])
    reference = np.stack([levels(case.face.reference) for case in cases])
    images = {
        Condition.PHASE_ONE: blurred,
        Condition.REVIEWED: truth,
        Condition.ONES: reference,
        Condition.ZEROS: blurred,
        Condition.STRANGER: blurred,
    }
    rows = summarise(cases, images).rows
    assert rows[Condition.REVIEWED].recovery == pytest.approx(1, abs=1e-4)
    assert rows[Condition.PHASE_ONE].contrast < 0.2
    assert rows[Condition.ONES].glasses == pytest.approx(1, abs=1e-4)
    assert rows[Condition.ZEROS].glasses == 0
    assert rows[Condition.REVIEWED].psnr > rows[Condition.PHASE_ONE].psnr + 10


def test_the_sheet_shows_the_most_marked_faces_of_different_people():
    cases = list(held_out_cases(Faces(3), 6, DATA, 0, known))
    bare = replace(cases[0], marks=np.zeros_like(cases[0].marks))
    rows = chosen_rows([bare, *cases[1:]], 2)
    assert len({cases[row].identity for row in rows}) == 2
    assert cases[rows[0]].marks.sum() == max(case.marks.sum() for case in cases)


def test_the_run_writes_its_report_and_its_picture(tmp_path, pipeline):
    shards = _shards(tmp_path)
    pipeline.save_pretrained(tmp_path / "model")
    seen: list[int] = []
    run = evaluate_transfer(
        tmp_path / "model",
        shards,
        tmp_path / "out",
        DATA,
        test=TransferTest(pictures=2, batch_size=4),
        known=known,
        progress=lambda done, _total: seen.append(done),
    )
    written = json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert written["faces"] == 6
    assert written["rows"]["all-zeros mask"]["psnr"] == written["rows"]["Phase I"]["psnr"]
    assert run.sheet == tmp_path / "out" / SHEET_NAME
    assert cv2.imread(str(run.sheet)).shape[0] > 2 * 128
    assert seen[-1] == 12


def test_a_model_without_a_reference_is_refused(tmp_path, pipeline):
    pipeline.restorer.reference_net = None
    pipeline.restorer.reference_attention = None
    pipeline.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="Phase I"):
        evaluate_transfer(
            tmp_path / "model", tmp_path, tmp_path, DATA, test=TransferTest(), known=None
        )
    with pytest.raises(CheckpointError):
        evaluate_transfer(
            tmp_path / "none", tmp_path, tmp_path, DATA, test=TransferTest(), known=None
        )


def _shards(folder):
    def save(name: str, image: np.ndarray):
        path = folder / name
        bgr = image[..., ::-1] if image.ndim == 3 else image.astype(np.uint8) * 255
        assert cv2.imwrite(str(path), bgr)
        return path

    faces, triplets = Faces(3), []
    for number in range(len(faces)):
        sample = faces[number]
        names = ("gt.jpg", "gt-region.png", "mask.png", "ref.jpg", "ref-region.png")
        parts = (sample.gt, sample.gt_region, sample.mask, sample.reference, sample.ref_region)
        gt, gt_region, mask, ref, ref_region = (
            save(f"{number}-{name}", part) for name, part in zip(names, parts, strict=True)
        )
        triplets.append(
            Triplet(
                key=sample.key,
                identity=sample.identity,
                split=Split.TEST,
                gt=gt,
                ref=ref,
                gt_region=gt_region,
                ref_region=ref_region,
                mask=mask,
                conflicts=(),
                status=Status.ACCEPTED,
                round=0,
                annotator="a",
                model_version=None,
                gt_phash=f"{number * 7919:016x}",
                ref_phash=f"{2**60 + number * 104729:016x}",
                gt_points=((0.0, 0.0),) * 5,
                ref_points=((0.0, 0.0),) * 5,
                source="s",
                licence="l",
            )
        )
    write_version(triplets, folder / "shards", allow=frozenset({"near-duplicate"}))
    return folder / "shards"

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from dataset_engine.degradation import degrade, preset
from dataset_engine.shards.stream import example_seed
from restoration.refstar_config import FaceData
from restoration.refstar_data import FaceMaker, FacePair, make_face, stack_faces, training_batches
from restoration.refstar_faces import open_faces
from restoration.refstar_folders import FolderPairs, SetAsideFiles

DATA = FaceData(size=32, workers=0)
CPU = torch.device("cpu")


@pytest.fixture
def pairs(refstar_faces):
    return refstar_faces.train


def _tensors(batch):
    return vars(batch).values()


def _batches(pairs, numbers, size=2, **others):
    maker = FaceMaker(pairs, others.pop("data", DATA), 0)
    return list(training_batches(maker, len(pairs), 5, numbers, size, device=CPU, **others))


def test_a_face_is_degraded_at_its_own_size_and_then_shrunk_by_area(pairs):
    pair = pairs.pair(0, 3)
    settings = preset("paper")
    face = make_face(pair, 11, settings, 32)
    degraded = degrade(pair.truth, example_seed(11, 0, 0), settings).image
    assert np.array_equal(
        face.degraded, cv2.resize(degraded, (32, 32), interpolation=cv2.INTER_AREA)
    )
    assert face.truth.shape == face.reference.shape == face.degraded_reference.shape == (32, 32, 3)
    assert not np.array_equal(face.degraded, face.truth)
    assert not np.array_equal(face.degraded_reference, face.reference)


def test_a_severe_input_gets_the_whole_face_region_as_its_mask(pairs):
    pair = pairs.pair(0, 3)
    never, always = (
        replace(preset("paper"), severe_threshold=threshold) for threshold in (0.0, 1.0)
    )
    assert np.array_equal(make_face(pair, 1, never, 64).mask, pair.mask)
    assert np.array_equal(make_face(pair, 1, always, 64).mask, pair.reference_region)


def test_without_regions_everything_counts_and_nothing_is_annotated(pairs):
    pair = pairs.pair(0, 3)
    face = make_face(FacePair(pair.truth, pair.reference, None, None), 1, preset("paper"), 32)
    assert face.region.all()
    assert not face.mask.any()


def test_batches_are_a_function_of_their_numbers(pairs):
    whole = _batches(pairs, range(6))
    for batch, again in zip(whole[4:], _batches(pairs, range(4, 6), workers=2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(_tensors(batch), _tensors(again), strict=True))
    assert whole[0].truth.shape == (2, 3, 32, 32)
    assert whole[0].mask.shape == (2, 1, 32, 32)
    assert set(whole[0].mask.unique().tolist()) == {0.0, 1.0}
    # Three batches are an epoch of six faces.
    first, second = (torch.cat([b.degraded for b in whole[n : n + 3]]) for n in (0, 3))
    assert not torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


def test_two_processes_together_get_what_one_gets_with_twice_the_batch(pairs):
    one = _batches(pairs, range(3), size=2)
    two = [_batches(pairs, range(3), size=1, process=n, processes=2) for n in (0, 1)]
    for whole, left, right in zip(one, *two, strict=True):
        assert torch.equal(whole.degraded, torch.cat([left.degraded, right.degraded]))


def test_variants_are_made_once_and_come_again(pairs):
    data = replace(DATA, variants=2)
    batches = _batches(pairs, range(30), size=1, data=data)
    seen = {tuple(batch.degraded.flatten().tolist()) for batch in batches}
    assert len(pairs) < len(seen) <= 2 * len(pairs)


def test_a_share_of_the_inputs_stays_clean(pairs):
    half = FaceMaker(pairs, replace(DATA, clean=0.5), 0)
    faces = [half(index, seed) for index in range(6) for seed in range(10)]
    clean = sum(np.array_equal(face.degraded, face.truth) for face in faces)
    assert 15 < clean < 45
    assert not any(np.array_equal(face.degraded_reference, face.reference) for face in faces)


def test_a_flip_turns_all_parts_over(pairs):
    never, always = (FaceMaker(pairs, replace(DATA, flip=share), 0)(1, 8) for share in (0.0, 1.0))
    for name, part in vars(never).items():
        assert np.array_equal(vars(always)[name], part[:, ::-1])
    assert stack_faces([always], CPU).truth.is_contiguous()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for identity in range(3):
        (tmp_path / f"{identity:03d}").mkdir()
        for image in range(3):
            pixels = np.full((512, 512, 3), 40 * identity + 10 * image + 30, np.uint8)
            pixels[:64] = rng.integers(0, 255, 3)
            cv2.imwrite(str(tmp_path / f"{identity:03d}" / f"{image}.png"), pixels)
    return tmp_path


def test_references_are_drawn_from_the_identitys_other_images(folder):
    faces = open_faces(folder, FaceData(size=32, validation=0.3), 0)
    assert (len(faces.train), len(faces.validation)) == (6, 3)
    drawn = {}
    for index in range(6):
        for seed in range(8):
            pair = faces.train.pair(index, seed)
            truth, reference = int(pair.truth[100, 0, 0]), int(pair.reference[100, 0, 0])
            assert truth // 40 == reference // 40 or abs(truth - reference) <= 20
            assert truth != reference
            drawn.setdefault(truth, set()).add(reference)
    assert all(len(references) == 2 for references in drawn.values())
    assert np.array_equal(faces.train.pair(2, 5).reference, faces.train.pair(2, 5).reference)


def test_a_region_beside_an_image_is_read(folder):
    region = np.zeros((512, 512), np.uint8)
    region[:100] = 255
    cv2.imwrite(str(folder / "000" / "0.region.png"), region)
    pairs = FolderPairs([sorted((folder / "000").glob("?.png"))], SetAsideFiles())
    assert pairs.pair(0, 0).region.sum() == 100 * 512
    assert pairs.pair(1, 0).region is None


def test_what_cannot_be_used_is_set_aside_with_its_reason(folder):
    cv2.imwrite(str(folder / "000" / "small.png"), np.zeros((64, 64, 3), np.uint8))
    (folder / "000" / "text.jpg").write_text("no image")
    (folder / "009").mkdir()
    faces = open_faces(folder, FaceData(size=32, validation=0.3), 0)
    reasons = {path.name: reason for path, reason in faces.left.reasons.items()}
    assert "64x64 px, not 512x512" in reasons["small.png"]
    assert "no readable image" in reasons["text.jpg"]
    assert "a pair needs two" in reasons["009"]
    assert len(faces.train) + len(faces.validation) == 9


def test_an_image_that_breaks_later_is_set_aside_and_another_takes_its_place(folder):
    left = SetAsideFiles()
    images = sorted((folder / "000").glob("?.png"))
    pairs = FolderPairs([images], left)
    whole = images[0].read_bytes()
    images[0].write_bytes(b"gone")
    pair = pairs.pair(0, 3)
    assert pair.truth.shape == (512, 512, 3)
    assert list(left.reasons) == [images[0]]
    images[1].write_bytes(b"gone")
    with pytest.raises(ValueError, match="fewer than two images"):
        pairs.pair(2, 3)
    assert len(whole) > 10


def test_folders_without_enough_faces_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 training and 0 validation faces"):
        open_faces(tmp_path, DATA, 0)
    with pytest.raises(ValueError, match="no folder"):
        open_faces(tmp_path / "nowhere", DATA, 0)

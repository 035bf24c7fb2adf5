from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import torch

from dataset_engine.pair_images import PairFiles, read_location
from dataset_engine.proposing import clean_mask, propose
from dataset_engine.shards.prefetch import prefetch
from models.inference import margins
from models.refsel import RefSel, RefSelConfig

END = (b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture(scope="module")
def model() -> RefSel:
    torch.manual_seed(0)
    return RefSel(
        RefSelConfig(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[PairFiles]:
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    made = []
    for number in range(5):
        gt, reference, region = (folder / f"{number}.{part}" for part in ("a.jpg", "b.jpg", "png"))
        for path in (gt, reference):
            small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(path), cv2.resize(small, (512, 512)))
        mask = np.zeros((512, 512), np.uint8)
        cv2.circle(mask, (256, 256), 180, 255, -1)
        cv2.imwrite(str(region), mask)
        made.append(PairFiles(f"pair-{number}", gt, reference, region))
    return made


def test_every_pair_gets_a_mask_in_the_face_region_in_order(model, files):
    proposals = list(propose(model, iter(files), batch_size=2))
    assert [one.key for one in proposals] == [one.key for one in files]
    for proposal, one in zip(proposals, files, strict=True):
        region = cv2.imread(str(one.region), cv2.IMREAD_GRAYSCALE) > 127
        assert proposal.mask.dtype == np.bool_
        assert proposal.mask.shape == (512, 512)
        assert not (proposal.mask & ~region).any()
        assert 0.5 <= proposal.score <= 1.0


def test_the_batch_size_does_not_change_the_proposals(model, files):
    one, many = list(propose(model, files, batch_size=1)), list(propose(model, files, batch_size=4))
    for left, right in zip(one, many, strict=True):
        assert (left.mask != right.mask).mean() < 0.005
        assert left.score == pytest.approx(right.score, abs=0.01)


def test_broken_files_are_set_aside_with_their_reason(model, files, tmp_path: Path):
    torn, small = tmp_path / "torn.jpg", tmp_path / "small.jpg"
    torn.write_bytes(b"\xff\xd8 torn")
    cv2.imwrite(str(small), np.zeros((64, 64, 3), np.uint8))
    region = files[0].region
    cut, cut_region = tmp_path / "cut.jpg", tmp_path / "cut.png"
    cut.write_bytes(files[0].gt.read_bytes()[:-1000])
    cut_region.write_bytes(files[0].region.read_bytes()[:-40])
    bomb, photo_bomb = tmp_path / "bomb.png", tmp_path / "bomb.jpg"
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in ((b"IHDR", header), END)))
    jpeg = bytearray(files[0].gt.read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    photo_bomb.write_bytes(jpeg)
    long = tmp_path / "long.jpg"
    with long.open("wb") as file:
        file.truncate(1 << 40)
    pairs = [
        PairFiles("torn", torn, files[0].reference, region),
        files[0],
        PairFiles("gone", files[0].gt, tmp_path / "gone.jpg", region),
        PairFiles("small", files[0].gt, small, region),
        PairFiles("empty", files[0].gt, files[0].reference, tmp_path / "empty.png"),
        PairFiles("cut", cut, files[0].reference, region),
        PairFiles("cut-region", files[0].gt, files[0].reference, cut_region),
        PairFiles("bomb", bomb, files[0].reference, region),
        PairFiles("photo-bomb", photo_bomb, files[0].reference, region),
        PairFiles("long", long, files[0].reference, region),
        PairFiles("bucket", "nowhere://bucket/image.jpg", files[0].reference, region),
    ]
    (tmp_path / "empty.png").touch()
    reasons: dict[str, str] = {}
    made = list(propose(model, pairs, set_aside=lambda key, why: reasons.update({key: why})))
    assert [one.key for one in made] == ["pair-0"]
    assert set(reasons) == {one.key for one in pairs} - {"pair-0"}
    assert "truncated" in reasons["cut"]
    assert "cut.png" in reasons["cut-region"]
    assert "60000x60000" in reasons["bomb"] or "3600000000 pixels" in reasons["bomb"]
    assert "bomb.jpg" in reasons["photo-bomb"]
    assert "is no aligned image" in reasons["long"]
    assert "nowhere" in reasons["bucket"]
    assert "no image" in reasons["torn"]
    assert "gone.jpg" in reasons["gone"]
    assert "64x64" in reasons["small"]


def test_pairs_are_read_only_a_little_ahead(model, files):
    taken: list[str] = []

    def endless():
        while True:
            taken.append(files[0].key)
            yield files[0]

    proposals = propose(model, endless(), batch_size=1)
    next(proposals)
    proposals.close()
    assert len(taken) <= 10


def test_what_else_is_proposed_changes_no_bit_of_a_pairs_proposal(model, files):
    whole = {one.key: one for one in propose(model, files, batch_size=2)}
    for chosen in ([1, 3, 4], [4], [2, 0, 4, 3, 1]):
        for one in propose(model, [files[number] for number in chosen], batch_size=2):
            assert np.array_equal(one.mask, whole[one.key].mask)
            assert one.score == whole[one.key].score


def test_whoever_stores_the_masks_does_not_hold_the_network_up(model, files, monkeypatch):
    answered: list[int] = []
    enough = threading.Event()

    def watched(*arguments):
        answered.append(threading.get_ident())
        if len(answered) == 3:
            enough.set()
        return margins(*arguments)

    monkeypatch.setattr("dataset_engine.proposing.margins", watched)
    proposals = propose(model, (files[0] for _ in range(12)), batch_size=1)
    next(proposals)
    assert enough.wait(60)
    assert len(list(proposals)) == 11
    assert threading.get_ident() not in answered


def test_a_whole_picture_with_something_after_its_end_is_taken(model, files, tmp_path: Path):
    longer = tmp_path / "longer.jpg"
    longer.write_bytes(files[0].gt.read_bytes() + b"\0\0")
    pair = PairFiles("longer", longer, files[0].reference, files[0].region)
    (made,) = propose(model, [pair], batch_size=1)
    (same,) = propose(model, files[:1], batch_size=1)
    assert np.array_equal(made.mask, same.mask)


def test_files_may_lie_wherever_fsspec_reaches(model, files):
    with fsspec.open("memory://pairs/gt.jpg", "wb") as file:
        file.write(files[0].gt.read_bytes())
    assert read_location("memory://pairs/gt.jpg") == files[0].gt.read_bytes()
    pair = PairFiles(
        "far", "memory://pairs/gt.jpg", f"file://{files[0].reference}", files[0].region
    )
    (far,) = propose(model, [pair], batch_size=1)
    (near,) = propose(model, files[:1], batch_size=1)
    assert np.array_equal(far.mask, near.mask)
    assert far.score == near.score


def test_specks_are_turned_over_and_marks_stay():
    region = np.zeros((512, 512), bool)
    region[100:400, 100:400] = True
    kept = region.copy()
    kept[150:153, 150:153] = False
    kept[200:220, 200:220] = False
    kept[209:212, 209:212] = True
    kept[10:60, 10:60] = True
    expected = region.copy()
    expected[200:220, 200:220] = False
    assert np.array_equal(clean_mask(kept, region), expected)
    nothing = np.zeros((512, 512), bool)
    assert not clean_mask(kept, nothing).any()


def test_prefetching_keeps_order_and_raises_in_its_place():
    def half(number: int) -> float:
        return 1 / (3 - number)

    for workers in (0, 2):
        got: list[float] = []
        with pytest.raises(ZeroDivisionError):
            got.extend(prefetch(half, range(6), workers=workers, ahead=3))
        assert got == [1 / 3, 1 / 2, 1.0]


def test_uncertainty_is_measured_in_bits_and_on_the_mirrored_pair(model, files):
    plain, whole = list(propose(model, files)), list(propose(model, files, flips=True))
    for bare, one in zip(plain, whole, strict=True):
        assert bare.flip_disagreement is None
        assert (bare.mask == one.mask).all()
        assert bare.entropy == one.entropy
        assert 0.0 < one.entropy < 1.001
        # with two classes the entropy bounds the mean of max(p, 1 - p) from both sides
        assert one.entropy >= 2 * (1 - one.score) - 1e-3
        assert 0.0 <= one.flip_disagreement <= 1.0


def test_what_is_symmetric_does_not_disagree_with_its_mirror_image(files):
    class Level(RefSel):
        """Certain of the upper half, whatever it is shown."""

        def forward(self, first, _reference):
            rows = torch.linspace(30, -30, first.shape[2])[None, None, :, None]
            margin = rows.expand(len(first), 1, *first.shape[2:])
            return torch.cat([-margin / 2, margin / 2], 1)

    config = RefSelConfig(
        encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 8, 8), working_size=64
    )
    for one in propose(Level(config), files, flips=True):
        assert one.flip_disagreement == 0.0
        assert one.entropy < 0.3

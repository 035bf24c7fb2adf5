import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_engine.sample import (
    TEMPLATE,
    identity_index,
    identity_name,
    shot_index,
    shot_name,
    truth,
    write_sample,
)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, identities=2, shots=2, seed=11)
    return folder


def test_every_shot_has_a_picture_a_region_and_points(written: Path) -> None:
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    shots = {
        f"sample-{i:04d}/{s:02d}{ending}"
        for i in range(2)
        for s in range(2)
        for ending in (".png", ".face.json", ".region.png")
    }
    assert names == shots | {"sample.json"}
    assert json.loads((written / "sample.json").read_text()) == {
        "seed": 11, "identities": 2, "shots": 2,
    }  # fmt: skip


def test_the_region_file_is_the_region_of_the_truth(written: Path) -> None:
    picture = cv2.imread(str(written / "sample-0001" / "01.png"))
    region = cv2.imread(str(written / "sample-0001" / "01.region.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (512, 512, 3)
    assert region.shape == (512, 512)
    assert set(np.unique(region)) == {0, 255}
    assert np.array_equal(region > 0, truth(11, 1, 0, 1).region)


def test_the_written_points_are_aligned_already(written: Path) -> None:
    for path in written.rglob("*.face.json"):
        points = np.array(json.loads(path.read_text())["five_points"])
        assert points.shape == (5, 2)
        p, q = points - points.mean(0), TEMPLATE - TEMPLATE.mean(0)
        scale = (p * q).sum() / (p**2).sum()
        turn = (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / (p**2).sum()
        assert abs(scale - 1) < 1e-4
        assert abs(turn) < 1e-4
        assert np.abs(points.mean(0) - TEMPLATE.mean(0)).max() < 0.01


def test_more_workers_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, identities=2, shots=2, seed=11, workers=2)
    assert digest(tmp_path) == digest(written)


def test_an_interrupted_sample_goes_on_and_keeps_what_is_complete(
    written: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, identities=2, shots=2, seed=11, progress=stop)
    kept = tmp_path / "sample-0000" / "00.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "sample-0000" / "01.region.png").unlink()
    seen: list[tuple[int, int]] = []
    write_sample(tmp_path, 2, 2, 11, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 4), (4, 4)]
    assert kept.stat().st_mtime_ns == before
    assert digest(tmp_path) == digest(written)


def test_a_folder_of_another_seed_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text('{"seed": 3, "identities": 1, "shots": 1}')
    with pytest.raises(ValueError, match="holds a sample of seed 3, not 4; choose another folder"):
        write_sample(tmp_path, 1, 1, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["sample.json"]


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("{")
    with pytest.raises(ValueError, match=r"sample\.json is not a sample's index"):
        write_sample(tmp_path, 1, 1, 4)


@pytest.mark.parametrize(("identities", "shots"), [(0, 1), (1, 0), (-2, 3)])
def test_counts_start_at_one(tmp_path: Path, identities: int, shots: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        write_sample(tmp_path, identities, shots, 1)


def test_names_are_read_back() -> None:
    assert identity_index(identity_name(12345)) == 12345
    assert identity_index("sample-0003") == 3
    assert shot_index(shot_name(7)) == 7
    assert shot_index("02") == 2
    for wrong in ("sample-3", "person-0003", "../sample-0003", "sample-0003/00"):
        with pytest.raises(ValueError, match="not an identity of the sample"):
            identity_index(wrong)
    for wrong in ("2", "x2", "02.png", ""):
        with pytest.raises(ValueError, match="not a shot of the sample"):
            shot_index(wrong)

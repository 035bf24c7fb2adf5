"""`engine restore` and `engine make-test-set` as a person runs them, with untrained networks."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from typer.testing import CliRunner

from dataset_engine.cli import app
from dataset_engine.sample import Person, shoot, write_sample

RUN = CliRunner()
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Callable[..., Any]) -> Path:
    """A saved pipeline."""
    from models.refsel import RefSel

    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(RefSel).save_pretrained(folder)
    return folder


@pytest.fixture
def engine(tmp_path: Path, model: Path) -> Callable[..., Result]:
    """Runs `engine restore` into the folder `out`."""

    def run(*words: str | Path, strict: bool = False) -> Result:
        more = ["--strict"] if strict else []
        said = ["restore", *words, "-o", tmp_path / "out", "--model", model, *more]
        return RUN.invoke(app, ["--home", str(tmp_path / "home"), *map(str, said)])

    return run


@pytest.fixture
def arcface(tmp_path: Path, arcface_stand_in: Callable[[Image], bytes]) -> Path:
    """Takes red people for one person, blue people for another, and grey ones for either."""
    weight = np.zeros((3, 16, 512), np.float32)
    weight[0, :, 0], weight[2, :, 0], weight[1, :, 1] = 1, -1, 1
    path = tmp_path / "home" / "weights" / "arcface.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(arcface_stand_in(weight.reshape(48, 512)))
    return path


def report(tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((tmp_path / "out" / "restore.json").read_text())
    return made


def picture(seed: int = 0, height: int = 64, width: int = 64, *, red: bool = True) -> Image:
    image = np.random.default_rng(seed).integers(0, 120, (height, width, 3)).astype(np.uint8)
    image[..., 0 if red else 2] += np.uint8(100)
    return image


def save(path: Path, image: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    assert cv2.imwrite(str(path), image)
    return path


def huge(path: Path) -> None:
    """A PNG of a few bytes whose header states 400 megapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


ODD = {
    "grey": "grayscale",
    "clear": "transparency, laid on white",
    "deep": "16 bits a channel, reduced to 8",
}
UNUSABLE = {
    "corrupt.jpg": "unreadable",
    "huge.png": "too_large",
    "long.png": "no_face",
    "nobody.png": "no_reference",
    "tiny.png": "too_few_pixels",
}


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder with two good pictures, three odd ones, and one for each reason to be set aside."""
    lq = tmp_path / "lq"
    for name in ("good", "fine", "nobody"):
        save(lq / f"{name}.png", picture())
    save(lq / "grey.png", picture()[..., 1])
    save(lq / "clear.png", np.dstack([picture(), np.full((64, 64), 128, np.uint8)]))
    save(lq / "deep.png", picture().astype(np.uint16) * 257)
    save(lq / "tiny.png", picture(0, 9, 9))
    save(lq / "long.png", picture(0, 40, 64))
    save(lq / "corrupt.png", picture()).rename(lq / "corrupt.jpg")
    (lq / "corrupt.jpg").write_bytes((lq / "corrupt.jpg").read_bytes()[:300])
    huge(lq / "huge.png")
    names = {path.stem for path in lq.iterdir()} - {"nobody"} | {"stranger"}
    for name in names:
        save(tmp_path / "ref" / f"{name}.png", picture(1))
    return lq


def test_every_kind_of_bad_input_is_reported_by_name_and_the_rest_goes_on(
    engine: Callable[..., Result], faces: Path, tmp_path: Path
) -> None:
    answer = engine(faces, "--reference", tmp_path / "ref", "--aligned", "--also", "mask")
    assert answer.exit_code == 0, answer.output
    made = report(tmp_path)
    assert {one["name"] for one in made["restored"]} == {"good", "fine", *ODD}
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == {"good", "fine", *ODD}
    assert {p.stem for p in (tmp_path / "out" / "mask").iterdir()} == {"good", "fine", *ODD}
    set_aside = {Path(one["file"]).name: one["reason"] for one in made["set_aside"]}
    assert set_aside == UNUSABLE | {"stranger.png": "no_input"}
    notes = {one["name"]: one["notes"] for one in made["restored"]}
    assert notes == {"good": [], "fine": []} | {name: [note] for name, note in ODD.items()}
    lines = answer.output.splitlines()
    for name, reason in set_aside.items():
        assert any(
            line.startswith("set aside ") and f"{name}: {reason}: " in line for line in lines
        )
    for name, note in ODD.items():
        assert f"note {name}.png: {note}" in lines
    assert "note ArcFace's weights are absent: identity was not compared" in lines
    why = f"good.png from {tmp_path}/ref/good.png: "
    assert any(line.startswith(why) and "of it is selected" in line for line in lines)

    again = engine(faces, "--reference", tmp_path / "ref", "--aligned", "--also", "mask")
    assert "5 pictures are in" in again.output
    assert "5 of them before" in again.output


def test_strictness_sets_odd_files_aside_and_fails(
    engine: Callable[..., Result], faces: Path, tmp_path: Path, arcface: Path
) -> None:
    answer = engine(faces, "--reference", tmp_path / "ref", "--aligned", strict=True)
    assert answer.exit_code == 1
    made = report(tmp_path)
    assert {one["name"] for one in made["restored"]} == {"good", "fine"}
    odd = {Path(o["file"]).stem: o["detail"] for o in made["set_aside"] if o["reason"] == "odd"}
    assert odd == ODD
    arcface.unlink()
    answer = engine(faces, "--reference", tmp_path / "ref", "--aligned", strict=True)
    assert answer.exit_code == 1
    assert "error: --strict refuses references of other people" in answer.output


@pytest.mark.usefixtures("arcface")
def test_a_reference_of_another_person_is_passed_over_warned_of_and_refused_when_strict(
    engine: Callable[..., Result], tmp_path: Path
) -> None:
    lq = save(tmp_path / "lq.png", picture())
    other = save(tmp_path / "other.png", picture(1, red=False))
    own = save(tmp_path / "own.png", picture(2))
    answer = engine(lq, "--reference", other, "--reference", own, "--aligned", strict=True)
    assert answer.exit_code == 0, answer.output
    (one,) = report(tmp_path)["restored"]
    assert one["reference"] == str(own)
    assert one["similarity"] > 0.9
    assert "passed over as perhaps another person" in one["why"]
    assert f"lq.png from {own}: " in answer.output

    answer = engine(lq, "--reference", other, "--aligned")
    assert answer.exit_code == 0
    (one,) = report(tmp_path)["restored"]
    assert one["notes"] == ["perhaps another person"]
    assert one["similarity"] < 0.2
    assert "note lq.png: perhaps another person" in answer.output

    answer = engine(lq, "--reference", other, "--aligned", strict=True)
    assert answer.exit_code == 1
    made = report(tmp_path)
    assert not made["restored"]
    assert [gone["reason"] for gone in made["set_aside"]] == ["another_person"]
    assert f"set aside {lq}: another_person: " in answer.output


@pytest.mark.slow
def test_faces_are_found_and_pasted_back_and_nobody_or_several_are_named(
    engine: Callable[..., Result], tmp_path: Path
) -> None:
    person = Person(0, 0)
    first, second = (shoot(person, person.shot(shot)).image for shot in (0, 1))
    scene = np.full((700, 1100, 3), 90, np.uint8)
    scene[100:612, 300:812] = first
    lq = tmp_path / "lq"
    save(lq / "one.png", scene)
    save(lq / "two.png", np.hstack([first, second]))
    save(lq / "none.png", np.full((300, 500, 3), 120, np.uint8))
    reference = save(tmp_path / "anna.png", second)
    answer = engine(lq, "--reference", reference)
    assert answer.exit_code == 0, answer.output
    made = report(tmp_path)
    assert {Path(one["file"]).name: one["reason"] for one in made["set_aside"]} == {
        "two.png": "several_faces",
        "none.png": "no_face",
    }
    (one,) = made["restored"]
    assert not one["notes"]
    restored = cv2.imread(str(tmp_path / "out" / "one.png"), cv2.IMREAD_COLOR_RGB)
    assert restored.shape == scene.shape
    changed = np.abs(restored.astype(int) - scene).max(axis=2) > 0
    assert changed[200:500, 400:700].mean() > 0.9
    assert not changed[:, :250].any()
    assert not changed[:, 870:].any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to restore: engine restore LQ --reference REF"),
        (["LQ", "--reference", "nowhere"], "nowhere is not there"),
        (
            ["LQ", "--reference", "LQ", "--also", "masks"],
            "'masks' is nothing to write too; give mask",
        ),
    ],
)
def test_what_cannot_be_begun_is_one_line_with_the_mend(
    engine: Callable[..., Result], tmp_path: Path, words: list[str], said: str
) -> None:
    lq = save(tmp_path / "lq.png", picture())
    answer = engine(*(str(lq) if word == "LQ" else word for word in words), "--aligned")
    assert answer.exit_code == 1
    assert answer.output.startswith("error: ")
    assert said in answer.output


def test_a_home_without_a_pipeline_says_how_to_get_one(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home")]
    for words in (["restore", "--web"], ["explain", "lq.png", "ref.png"]):
        answer = RUN.invoke(app, [*home, *words])
        assert answer.exit_code == 1
        assert "engine train-restoration" in answer.output


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered people, three photographs of each, with sidecars."""
    folder = tmp_path_factory.mktemp("people")
    write_sample(folder, 3, 3, 0)
    return folder


def make_set(tmp_path: Path, source: Path, *words: str | Path) -> Result:
    command = ["make-test-set", source, "-o", tmp_path / "set", *words]
    return RUN.invoke(app, ["--home", str(tmp_path / "home"), *map(str, command)])


def copy(path: Path, folder: Path, stem: str) -> None:
    """A photograph and its sidecars under another name."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".face.json", ".region.png"):
        (folder / f"{stem}{suffix}").write_bytes(path.with_name(path.stem + suffix).read_bytes())


@pytest.mark.slow
def test_celeb_ref_test_is_built_by_command_without_those_who_were_trained_on(
    people: Path, tmp_path: Path
) -> None:
    celeba = tmp_path / "CelebA"
    lines = []
    for number, path in enumerate(sorted(people.glob("*/??.png"))):
        copy(path, celeba / "img_celeba", f"{number:06d}")
        lines.append(f"{number:06d}.jpg {int(path.parent.name[-4:])}")
    (celeba / "identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    training = tmp_path / "training"
    for path in (people / "sample-0001").glob("??.png"):
        copy(path, training / "another-name", path.stem)
    answer = make_set(tmp_path, celeba, "--trained-on", training, "--identities", 3)
    assert answer.exit_code == 0, answer.output
    listed = json.loads((tmp_path / "set" / "test-set.json").read_text())
    assert {one["name"] for one in listed["faces"]} == {"0", "2"}
    assert (listed["seed"], listed["degradation"], listed["asked"]) == (0, "paper", 3)
    assert f"2 faces are in {tmp_path}/set, SHA-256 {listed['sha256'][:16]}\n" in answer.output
    assert "1 were refused, since they were trained on" in answer.output
    assert len(list((tmp_path / "set" / "lq").iterdir())) == 2

    first = listed["sha256"]
    answer = make_set(tmp_path, celeba, "--identities", 2)
    assert answer.exit_code == 0, answer.output
    assert "give --trained-on" in answer.output
    assert json.loads((tmp_path / "set" / "test-set.json").read_text())["sha256"] != first


@pytest.mark.slow
def test_a_set_like_realref60_is_built_by_command(people: Path, tmp_path: Path) -> None:
    source = tmp_path / "real"
    for name, identity in (("anna", 0), ("bela", 1), ("carl", 2)):
        copy(people / f"sample-{identity:04d}" / "00.png", source / "ref", name)
        small = cv2.imread(str(people / f"sample-{identity:04d}" / "01.png"))
        save(source / "LQ" / f"{name}.png", cv2.resize(small, (160, 160))[..., ::-1])
    (source / "ref" / "carl.png").rename(source / "ref" / "dora.png")
    training = tmp_path / "training" / "bela"
    copy(people / "sample-0001" / "02.png", training, "1")
    answer = make_set(tmp_path, source, "--trained-on", training.parent)
    assert answer.exit_code == 0, answer.output
    listed = json.loads((tmp_path / "set" / "test-set.json").read_text())
    assert [one["name"] for one in listed["faces"]] == ["anna"]
    assert {(Path(one["file"]).name, one["reason"]) for one in listed["set_aside"]} == {
        ("bela.png", "trained_on"),
        ("carl.png", "no_reference"),
        ("dora.png", "no_input"),
    }
    assert cv2.imread(str(tmp_path / "set" / "lq" / "anna.png")).shape == (512, 512, 3)


def test_a_source_of_another_form_is_refused_with_the_mend(people: Path, tmp_path: Path) -> None:
    answer = make_set(tmp_path, people)
    assert answer.exit_code == 1
    assert (
        "neither CelebA with its list of identities, nor LQ/ and ref/, nor shards" in answer.output
    )

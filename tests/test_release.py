"""What is released works where there is no checkout: the wheel, its data files, its version."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from annotator.server import LABEL_STUDIO_VERSION

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("annotator", "dataset_engine", "models", "restoration", "migrations")
SOURCES = (*ROOMS, "pyproject.toml", "README.md", "LICENSE")
DATA = {".css", ".html", ".js", ".mako", ".xml", ".yaml"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy without history, as of an archive."""
    folder = tmp_path_factory.mktemp("release")
    copy = folder / "source"
    copy.mkdir()
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in SOURCES), str(copy)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked into a folder of its own, which comes before everything else."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)
    return target


def run(
    installed: Path, folder: Path, *words: str, expected: int = 0
) -> subprocess.CompletedProcess[str]:
    """The installed `engine` in an empty folder, with nothing of the checkout in reach."""
    done = subprocess.run(
        [sys.executable, str(installed / "bin" / "engine"), *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done


def test_a_missing_label_studio_is_told_to_be_installed_as_it_was_tested() -> None:
    pinned = (ROOT / "constraints-label-studio.txt").read_text().splitlines()
    assert f"label-studio=={LABEL_STUDIO_VERSION}" in pinned


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = wheel.parent / "source"
    wanted = {
        path.relative_to(source).as_posix()
        for room in ROOMS
        for path in (source / room).rglob("*")
        if path.suffix in DATA | {".py"} and "__pycache__" not in path.parts
    }
    assert held == wanted


@pytest.mark.slow
def test_the_installed_engine_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = "import annotator; print(annotator.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(installed))
    assert "Usage: engine" in run(installed, tmp_path, "--help").stdout
    assert run(installed, tmp_path, "--version").stdout == "engine 0\n"  # of no tag
    run(installed, tmp_path, "sample", "faces", "--identities", "1", "--shots", "2")
    run(installed, tmp_path, "--home", "home", "ingest", "faces")
    assert '"pairs"' in run(installed, tmp_path, "--home", "home", "status", "--json").stdout
    assert not (tmp_path / "refstar-home").exists()


@pytest.mark.slow
def test_the_demo_says_at_once_that_label_studio_is_missing(
    installed: Path, tmp_path: Path
) -> None:
    said = run(installed, tmp_path, "demo", expected=1).stdout
    assert f"pip install label-studio=={LABEL_STUDIO_VERSION}" in said
    assert not list(tmp_path.rglob("*.png"))

"""The house keeps its order: who may import whom, how long a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("annotator", "dataset_engine", "models", "restoration")
DOORS = ("dataset_engine.shards", "dataset_engine.degradation")
"""What restoration may use of the dataset engine."""
COMMAND_LINE = "dataset_engine/cli/"
ALLOWED = {
    "annotator": {"annotator", "dataset_engine", "models"},
    "dataset_engine": {"dataset_engine", "models", "migrations"},
    "models": {"models"},
    "restoration": {"restoration", "models", "dataset_engine"},
}


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    wrong = []
    for path in (ROOT / room).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(COMMAND_LINE):
            continue
        for module in imports(path):
            target = module.split(".")[0]
            if target in (*ROOMS, "migrations") and target not in ALLOWED[room]:
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_restoration_enters_the_dataset_engine_by_its_two_doors_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / "restoration").rglob("*.py")
        for module in imports(path)
        if module.startswith("dataset_engine") and not module.startswith(DOORS)
    ]
    assert not wrong


def test_modules_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    too_long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 500}
    assert not too_long
    assert sorted(lengths.values())[len(lengths) // 2] < 200


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent

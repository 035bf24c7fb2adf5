"""The documentation builds without a warning, leaves nothing out, and asks nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from annotator.secrets import VARIABLES
from annotator.service import whole_service
from dataset_engine.cli import app
from dataset_engine.settings import Settings
from dataset_engine.store import Store

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TOP = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = sorted(
    f"{name} {inner}".strip()
    for name, command in TOP.items()
    for inner in getattr(command, "commands", [""])
)
ROOMS = ("annotator", "dataset_engine", "models", "restoration")
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Loaded(HTMLParser):
    """Collects what a browser fetches by itself with a page, and the page's text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in LOADING and given.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(given.get(LOADING[tag]) or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: Path) -> Loaded:
    loaded = Loaded()
    loaded.feed(page.read_text())
    return loaded


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_explained_on_a_page(command: str) -> None:
    wanted = re.compile(rf"engine(?: --\S+ \S+)* {command}\b")
    assert any(wanted.search(page.read_text()) for page in PAGES)


def test_every_variable_that_people_can_set_is_explained_on_a_page() -> None:
    """Those of `Settings` and the secrets have the generated page; this is about all others."""
    code = [
        path for room in (*ROOMS, "benchmarks", "tests") for path in (ROOT / room).rglob("*.py")
    ]
    setup = [ROOT / name for name in ("Makefile", "Dockerfile", "docker-compose.yml")]
    text = "".join(path.read_text() for path in (*code, *setup))
    named = set(re.findall(r"\bREFSTAR_[A-Z][A-Z_]*[A-Z]\b", text))
    named |= set(re.findall(r"\$\{(\w+)", setup[-1].read_text()))
    generated = set(VARIABLES.values())
    for name, field in Settings.model_fields.items():
        aliases = getattr(field.validation_alias, "choices", [f"REFSTAR_{name.upper()}"])
        generated |= set(map(str, aliases))
    assert len(named - generated) > 10
    told = "".join(page.read_text() for page in (*PAGES, ROOT / "CONTRIBUTING.md"))
    assert not [name for name in sorted(named - generated) if f"`{name}" not in told]


def test_every_folder_of_the_code_has_its_line_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.*")}
    names = {f"{path.relative_to(ROOT).as_posix()}/" for path in folders}
    code = {name for name in names if "__pycache__" not in name}
    assert {"models/", "dataset_engine/store/", "restoration/restore/"} <= code
    under = ("annotator/review/",)  # its templates and scripts
    assert not [
        name
        for name in sorted(code)
        if f"| `{name}` |" not in text and not (name.startswith(under) and name not in under)
    ]


@pytest.mark.slow
def test_every_command_has_its_reference(site: Path) -> None:
    text = "".join(parsed(site / "reference" / "commands.html").text)
    assert not [command for command in COMMANDS if f"engine {command}" not in text]


@pytest.mark.slow
def test_every_setting_and_secret_has_its_line_and_says_what_it_is(site: Path) -> None:
    text = "".join(parsed(site / "reference" / "settings.html").text)
    for name, field in Settings.model_fields.items():
        aliases = getattr(field.validation_alias, "choices", [f"REFSTAR_{name.upper()}"])
        assert all(str(alias) in text for alias in aliases)
        assert field.description, name
        assert field.description.replace("`", "") in text
    assert not [variable for variable in VARIABLES.values() if variable not in text]


@pytest.mark.slow
def test_every_endpoint_has_its_line(site: Path, store: Store, settings: Settings) -> None:
    text = "".join(parsed(site / "reference" / "endpoints.html").text)
    paths = whole_service(store, settings, "127.0.0.1").openapi()["paths"]
    assert {"/", "/predict", "/webhook", "/metrics", "/review"} <= paths.keys()
    for path, operations in paths.items():
        for method, operation in operations.items():
            what = operation.get("description")
            assert what, f"{method.upper()} {path} does not say what it does"
            assert f"{method.upper()}\n{path}\n{' '.join(what.split())}" in text


@pytest.mark.slow
def test_every_module_has_its_reference(site: Path) -> None:
    for room in ROOMS:
        page = (site / "reference" / f"{room}.html").read_text()
        names = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for path in (ROOT / room).rglob("*.py")
            if path.stem not in {"__init__", "__main__", "ls_settings"}
        ]
        assert not [name for name in names if f'id="{name}"' not in page]


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    foreign = {
        address
        for page in pages
        for address in parsed(page).addresses
        if re.match(r"(\w+:)?//", address)
    }
    assert not foreign
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"url\(\s*['\"]?https?:", styles)

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
    assert {"/predict", "/webhook", "/metrics", "/review"} <= paths.keys()
    assert not [path for path in paths if path not in text]


@pytest.mark.slow
def test_every_module_has_its_reference(site: Path) -> None:
    for room in ("annotator", "dataset_engine", "models", "restoration"):
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

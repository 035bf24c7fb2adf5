"""Pages that mkdocs makes of the code itself: commands, settings, endpoints, and every module.

A hook of mkdocs.yml. What is generated here cannot be out of date.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer
from fastapi import FastAPI
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from annotator.secrets import VARIABLES
from annotator.service import whole_service
from dataset_engine.cli import app
from dataset_engine.settings import Settings
from dataset_engine.store import Store

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("annotator", "dataset_engine", "models", "restoration")
METHODS = {"get", "post", "put", "patch", "delete"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give every page a place: the generated ones, and those that nobody has put into the nav."""
    nav = config.nav or []
    placed = str(nav)
    folder = Path(config.docs_dir)
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
    nav += [{"More": others}] if (others := [p for p in pages if p not in placed]) else []
    nav += [{"Reference": [*pages_of_reference()]}]
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in pages_of_reference().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages_of_reference() -> dict[str, str]:
    """Name and Markdown of each generated page."""
    return {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/endpoints.md": endpoints(),
    } | {f"reference/{room}.md": f"# {room}\n\n::: {room}\n" for room in ROOMS}


def commands() -> str:
    """Every command with its arguments, options and example."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="engine")
    return get_docs_for_click(obj=command, ctx=context, name="engine", title="Commands")


def settings() -> str:
    """Every variable of the environment that the engine reads."""
    lines = [
        "# Settings",
        "",
        "Variables of the environment; the command line's options win. An empty one is not set.",
        "",
        "| variable | default | what it is |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        aliases = getattr(field.validation_alias, "choices", [f"REFSTAR_{name.upper()}"])
        shown = " or ".join(f"`{alias}`" for alias in aliases)
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| {shown} | {default} | {field.description} |")
    lines += [
        "",
        "## Secrets",
        "",
        "Each is made at random and kept in `secrets.json` of the home, unless its variable gives it.",
        "",
        "| variable | what it is |",
        "| --- | --- |",
    ]
    lines += [
        f"| `{variable}` | {name.replace('_', ' ')} |" for name, variable in VARIABLES.items()
    ]
    return "\n".join(lines) + "\n"


def endpoints() -> str:
    """Every address that the service answers at."""
    lines = ["# Endpoints", "", "What the service answers.", ""]
    lines += ["| method | address | what it does |", "| --- | --- | --- |"]
    for path, operations in service().openapi()["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                said = operation.get("description", operation.get("summary", ""))
                told = " ".join(said.partition("\n\n")[0].split())
                lines.append(f"| {method.upper()} | `{path}` | {told} |")
    return "\n".join(lines) + "\n"


def service() -> FastAPI:
    """The whole service, on an empty store that is gone again."""
    with tempfile.TemporaryDirectory() as folder:
        given = Settings.model_construct(home=Path(folder))
        with Store(given) as store:
            return whole_service(store, given, "127.0.0.1")

"""Commands for those who run the engine for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, settings_of
from dataset_engine.progress import console

PANEL = "Deployment"


@app.command(
    "init-env", rich_help_panel=PANEL, epilog="Example: engine init-env --postgres postgres"
)
def init_env(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path(".env"),
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Host of a PostgreSQL for engine and Label Studio ('postgres' is that of "
            "docker-compose.yml), or the folder of its socket; SQLite otherwise.",
        ),
    ] = None,
) -> None:
    """Write .env with random secrets for a team's set-up; one that is there stays as it is."""
    from annotator.env_file import write_env_file

    write_env_file(file, postgres=postgres)
    console.print(f"{escape(str(file))} is written: keep it, and show it to nobody")


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work migrate --wait 60")
def migrate(
    context: typer.Context,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a database that is starting.")
    ] = 0.0,
) -> None:
    """Bring the database to this engine's schema (every other command does so, too)."""
    from dataset_engine.store.migrating import migrate as run

    settings = settings_of(context)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    run(settings.resolved_database_url, wait, console.print)
    console.print("the database has this engine's schema")

"""Commands that keep what people made: backups, and moves between databases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

PANEL = "Keeping"


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work backup work-monday.tar")
def backup(
    context: typer.Context,
    archive: Annotated[Path, typer.Argument(help="The tar to write.")],
) -> None:
    """Archive database, images, masks and models, also while people work; checked afterwards.

    The archive holds faces: keep it where only those may read it who may see them.
    """
    from dataset_engine.backup import back_up

    with open_store(settings_of(context)) as store, progress_bar("backing up") as advance:
        report = back_up(store, archive, advance)
    console.print(
        f"{report.rows} rows, {report.images} images, {report.masks} masks and {report.models} model "
        f"files are in {escape(str(archive))} ({decimal(report.size)})"
    )
    for name in report.missing[:20]:
        console.print(f"[red]missing[/] {name}: the database names it, but it is not in the home")
    if report.missing:
        console.print(f"[red]{len(report.missing)} files are missing from the home[/]")
        raise typer.Exit(1)


@app.command(
    "restore-backup",
    rich_help_panel=PANEL,
    epilog="Example: engine --home restored restore-backup work-monday.tar",
)
def restore_backup(
    context: typer.Context,
    archive: Annotated[Path, typer.Argument(help="What `engine backup` wrote.")],
) -> None:
    """Make a new home of a backup; every byte is checked on the way."""
    from dataset_engine.backup import restore_backup as run

    settings = settings_of(context)
    with progress_bar("restoring, MB") as advance:
        report = run(archive, settings, advance)
    console.print(
        f"{report.rows} rows, {report.images} images and {report.masks} masks are in "
        f"{escape(str(settings.home))}"
    )


@app.command(
    "move-store",
    rich_help_panel=PANEL,
    epilog="Example: engine move-store sqlite:///work/refstar.sqlite "
    "postgresql+psycopg://refstar@db/refstar",
)
def move_store(
    source: Annotated[str, typer.Argument(help="SQLAlchemy URL of the database to copy.")],
    target: Annotated[str, typer.Argument(help="URL of an empty database.")],
) -> None:
    """Copy a store's database to another, row by row, and compare what arrived.

    Images and masks stay in the home. Point REFSTAR_DATABASE_URL at the new database afterwards.
    Passwords are better kept in ~/.pgpass than in these URLs, which others may see in a process list.
    """
    from dataset_engine.store.copying import move_store as run

    with progress_bar("copying rows") as advance:
        moved = run(source, target, advance)
    for name, digest in moved.items():
        console.print(f"{name:24} {digest.rows:>9} rows  {digest.sha256[:16]}", highlight=False)
    console.print("every table arrived as it was sent")

"""The command that removes a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

PANEL = "Keeping"

TASKS_LEFT = 4
"""Exit status of `engine forget` when Label Studio still shows the person."""


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work forget CelebRef-HQ/0017")
def forget(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(help="SOURCE/NAME; NAME alone where that is one person.")
    ],
    exports: Annotated[
        list[Path] | None,
        typer.Option(help="An export to look for the person in, besides HOME/refsel-hq."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Remove a person from images, masks, database and the next export; what it cannot reach, it names.

    Interrupted and run again, it finishes. Ends with status 4 while Label Studio still has tasks of
    the person.
    """
    from annotator.removal import remove_bodies, remove_tasks
    from dataset_engine.forgetting import find_person, tasks_are_gone, versions_with
    from dataset_engine.forgetting import forget as run
    from dataset_engine.reports import removal_lines

    settings = settings_of(context)
    with open_store(settings) as store:
        person = find_person(store, identity)
        called = person.called if person else identity
        if person and not yes:
            typer.confirm(f"Remove {called} for good, with all pictures and decisions?", abort=True)
        with progress_bar("removing files") as advance:
            done = run(store, called, advance)
        remove_bodies(store.home, done.tasks)
        gone, problem = remove_tasks(store.home, settings, done.tasks)
        tasks_are_gone(store, done.removal_id, gone)
        folders = [settings.home / "refsel-hq", *(exports or ())]
        published = [version for folder in folders for version in versions_with(called, folder)]
    left = [task for task in done.tasks if task[3] not in gone]
    for line in removal_lines(done, left, problem, published, settings.home):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if left:
        raise typer.Exit(TASKS_LEFT)

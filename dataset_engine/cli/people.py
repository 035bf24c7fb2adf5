"""Commands for the work with annotators: the demo, the workplace, rounds, status."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

PANEL = "Annotation"

SEEDS_MISSING = 3
"""Exit status of `engine bootstrap` when it is the annotators' turn."""


@app.command(rich_help_panel=PANEL, epilog="Example: engine demo demo --stay")
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for the demo; made if need be.")] = Path(
        "demo"
    ),
    stay: Annotated[bool, typer.Option(help="Leave Label Studio up, to paint yourself.")] = False,
) -> None:
    """Watch the whole line work on rendered faces: folders to a trained RefSel, in minutes."""
    from annotator.demo import run_demo

    run_demo(settings_of(context), out, stay=stay)


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work annotate --port 8080")
def annotate(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="Port of Label Studio.")] = None,
    service_port: Annotated[int | None, typer.Option(help="Port of the service.")] = None,
) -> None:
    """Open the annotators' workplace, and keep it open until Ctrl-C."""
    from annotator.workplace import hold_open

    given = {"label_studio_port": port, "service_port": service_port}
    update = {name: value for name, value in given.items() if value is not None}
    settings = settings_of(context).model_copy(update=update)
    with open_store(settings) as store:
        hold_open(store, settings)


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work serve --port 9090")
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    sync_every: Annotated[
        float | None, typer.Option(min=0, help="Seconds between two syncs (60); 0 for none.")
    ] = None,
) -> None:
    """Run the pre-annotation service alone (`engine annotate` starts it by itself)."""
    from annotator.service import serve as run

    settings = settings_of(context)
    if sync_every is not None:
        settings = settings.model_copy(update={"sync_every": sync_every})
    with open_store(settings) as store:
        run(store, settings, host or settings.service_host, port or settings.service_port)


@app.command(
    "review-link", rich_help_panel=PANEL, epilog="Example: engine review-link anna --days 7"
)
def review_link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who reviews; kept with every decision.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="How long the link works.")] = 14,
) -> None:
    """Make a link that signs one person in to the review pages; pass it on in private."""
    from datetime import timedelta

    from annotator.review.address import review_link as make

    settings = settings_of(context)
    typer.echo(make(settings.home, settings, name, timedelta(days=days)))


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: engine --home work bootstrap --seed 800   (run it again for each round)",
)
def bootstrap(
    context: typer.Context,
    seed: Annotated[int, typer.Option(min=1, help="Pairs that people annotate first.")] = 800,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the U-Net.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained RefSel to propose with; none is trained."),
    ] = None,
) -> None:
    """Take a round: seed pairs to people, or train the U-Net and propose masks for the rest.

    Ends with status 3 when it is the annotators' turn.
    """
    from annotator.reports import round_table
    from annotator.rounds import NothingNewError, SeedsMissingError, run_round
    from annotator.workplace import connect
    from dataset_engine.bootstrap_training import BootstrapSettings

    settings = settings_of(context)
    training = BootstrapSettings()
    if steps is not None:
        training = replace(training, steps=steps)
    with open_store(settings) as store, connect(store, settings) as workplace:
        try:
            report = run_round(
                store,
                workplace,
                settings,
                seed_count=seed,
                training=training,
                bar=progress_bar,
                model=model,
            )
        except SeedsMissingError as error:
            console.print(
                f"[yellow]It is the annotators' turn:[/] {escape(str(error))}", soft_wrap=True
            )
            raise typer.Exit(SEEDS_MISSING) from None
        except NothingNewError as error:
            console.print(escape(str(error)), soft_wrap=True)
            return
    console.print(round_table(report))


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work sync")
def sync(
    context: typer.Context,
    accept_deletions: Annotated[
        bool, typer.Option(help="Believe it when a large part of the annotations is gone.")
    ] = False,
) -> None:
    """Bring the store to the state of Label Studio, whatever webhooks were lost."""
    from annotator.reports import sync_line
    from annotator.rounds import sync_workplace
    from annotator.workplace import connect

    settings = settings_of(context)
    with open_store(settings) as store, connect(store, settings) as workplace:
        report = sync_workplace(store, workplace, progress_bar, accept_deletions=accept_deletions)
    console.print(sync_line(report))


@app.command(rich_help_panel=PANEL, epilog="Example: engine --home work status --json")
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how far the work has come."""
    from dataset_engine.reports import status_tables
    from dataset_engine.store.queries import status_report

    with open_store(settings_of(context)) as store, store.reading() as session:
        report = status_report(session)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        console.print(status_tables(report))

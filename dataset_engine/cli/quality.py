"""Commands about the quality of annotators' answers: the table, and gold answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

quality = typer.Typer(
    name="quality",
    help="How well annotators answer, and the gold answers that test them.",
    epilog="Example: engine --home work quality --json",
    invoke_without_command=True,
)
app.add_typer(quality, rich_help_panel="Annotation")


@quality.callback()
def quality_table(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how annotators' answers compare with gold answers and with each other's."""
    from dataset_engine.quality_report import quality_tables
    from dataset_engine.store.comparing import compare_all
    from dataset_engine.store.quality import quality_report

    if context.invoked_subcommand is not None:
        return
    with open_store(settings_of(context)) as store:
        with progress_bar("comparing answers") as advance:
            compare_all(store, advance)
        with store.reading() as session:
            report = quality_report(session, store.least_iou, store.least_kappa)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        console.print(quality_tables(report))


@quality.command(
    "gold", epilog="Example: engine --home work quality gold --reviewer Anna --limit 50"
)
def quality_gold(
    context: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of pairs.")] = None,
    reviewer: Annotated[
        str, typer.Option(help="Take what this person accepted or adjusted instead, newest first.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many of these.")] = 50,
    set_by: Annotated[str, typer.Option("--by", help="Who says that they are right.")] = "engine",
    drop: Annotated[bool, typer.Option(help="Let the pairs be gold no more.")] = False,
) -> None:
    """Make the answers at which pairs stand gold; the next sending mixes their tasks in."""
    from dataset_engine.store.gold import drop_gold, gold_from_reviewer, set_gold

    if bool(keys) == bool(reviewer) or (drop and not keys):
        raise typer.BadParameter("give keys of pairs, or --reviewer NAME (--drop takes keys only)")
    with open_store(settings_of(context)) as store:
        if drop:
            console.print(f"{drop_gold(store, keys or ())} pairs are gold no more")
        elif keys:
            console.print(f"{set_gold(store, keys, set_by)} pairs are gold now")
        else:
            count = gold_from_reviewer(store, reviewer, limit, set_by)
            console.print(f"{count} answers of {escape(reviewer)} are gold now")

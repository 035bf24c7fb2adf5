"""The command that measures what proposes masks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar


@app.command(
    "compare-proposals",
    rich_help_panel="Annotation",
    epilog="Example: engine --home work compare-proposals --json",
)
def compare_proposals(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Measure the rule beside the newest U-Net on reviewed pairs of held-out identities."""
    from dataset_engine.cold_start.comparing import compare_proposals as run
    from dataset_engine.cold_start.landmarks import Landmarks
    from dataset_engine.cold_start.reports import comparison_table

    with open_store(settings_of(context)) as store, progress_bar("comparing") as advance:
        comparison = run(store, Landmarks(store), advance)
    if as_json:
        typer.echo(json.dumps(asdict(comparison)))
        return
    console.print(comparison_table(comparison))

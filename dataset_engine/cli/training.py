"""Commands that train the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

PANEL = "Models"


@app.command(
    "train-refsel",
    rich_help_panel=PANEL,
    epilog="Example: engine --home work train-refsel refsel-hq --steps 2000",
)
def train_refsel(
    context: typer.Context,
    shards: Annotated[
        Path | None, typer.Argument(help="RefSel-HQ shards; HOME/refsel-hq otherwise.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; HOME/runs/refsel otherwise.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with training settings.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    from_scratch: Annotated[
        bool, typer.Option(help="Do not start from the newest bootstrap U-Net.")
    ] = False,
) -> None:
    """Train RefSel on degraded inputs; run again after a stop, and it goes on exactly."""
    from dataset_engine.store.queries import usable_round
    from dataset_engine.stored_pairs import model_folder
    from restoration.refsel_config import RefSelTraining, read_training
    from restoration.refsel_evaluation import scenario_table
    from restoration.refsel_run import run_refsel

    settings = settings_of(context)
    training = read_training(config) if config else RefSelTraining(seed=settings.seed)
    if steps is not None:
        training = replace(training, steps=steps)
    weights = None
    if not from_scratch:
        with open_store(settings) as store, store.reading() as session:
            round_ = usable_round(session)
            weights = model_folder(store, round_.model_version) if round_ else None
    with progress_bar("training RefSel") as advance:
        report = run_refsel(
            shards or settings.home / "refsel-hq",
            out or settings.home / "runs" / "refsel",
            training,
            bootstrap=weights,
            progress=advance,
        )
    if report.resumed_from:
        console.print(f"went on from step {report.resumed_from}")
    if report.note:
        console.print(f"[yellow]note[/] {escape(report.note)}")
    console.print(scenario_table(report.evaluation, "RefSel on test identities"))
    console.print(f"the best RefSel is {escape(str(report.best))}")


@app.command(
    "evaluate-refsel",
    rich_help_panel=PANEL,
    epilog="Example: engine --home work evaluate-refsel refsel-hq --out refsel-test",
)
def evaluate_refsel(
    context: typer.Context,
    shards: Annotated[
        Path | None, typer.Argument(help="RefSel-HQ shards; HOME/refsel-hq otherwise.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a RefSel; HOME/runs/refsel/best otherwise.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page; beside the model otherwise.")
    ] = None,
    per_scenario: Annotated[
        int, typer.Option(min=1, help="Pairs for each of the five scenarios.")
    ] = 50,
    preset: Annotated[str, typer.Option(help="Named degradation settings.")] = "paper",
) -> None:
    """Test RefSel as the paper does, beside the all-ones mask; writes a page with the worst pairs."""
    from restoration.evaluate_refsel.run import ProtocolSettings
    from restoration.evaluate_refsel.run import evaluate_refsel as run
    from restoration.evaluate_refsel.summary import summary_table

    settings = settings_of(context)
    model = model or settings.home / "runs" / "refsel" / "best"
    with progress_bar("testing RefSel") as advance:
        report = run(
            model,
            shards or settings.home / "refsel-hq",
            out or model.parent / "test",
            ProtocolSettings(per_scenario=per_scenario, preset=preset, seed=settings.seed),
            progress=advance,
        )
    console.print(summary_table(report.summary))
    console.print(f"the page is {escape(str(report.page))}")

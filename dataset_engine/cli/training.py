"""Commands that train the models."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

PANEL = "Models"


class Resume(StrEnum):
    """From where a phase goes on."""

    LATEST = "latest"


ConfigOption = Annotated[
    str, typer.Option(help="A preset (tiny, arc2face, sd15) or a YAML file with training settings.")
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Folder of published weights; HOME/weights otherwise.")
]


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


@app.command(
    "train-restoration",
    rich_help_panel=PANEL,
    epilog="Example: engine train-restoration CelebRef-HQ --config arc2face --phase 1 --resume latest",
)
def train_restoration(
    context: typer.Context,
    faces: Annotated[
        Path | None,
        typer.Argument(
            help="RefSel-HQ shards, or a folder of identity folders; HOME/refsel-hq otherwise."
        ),
    ] = None,
    config: ConfigOption = "arc2face",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; HOME/runs/restoration otherwise.")
    ] = None,
    phase: Annotated[int, typer.Option(min=1, max=3, help="Which of the three phases.")] = 1,
    refsel: Annotated[
        Path | None,
        typer.Option(help="A trained RefSel, for Phases 2 and 3; HOME/runs/refsel/best otherwise."),
    ] = None,
    weights: WeightsOption = None,
    resume: Annotated[
        Resume | None, typer.Option(help="Go on from the newest state, exactly.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print parameters, memory and operations; train nothing.")
    ] = False,
) -> None:
    """Train RefSTAR, phase by phase; accelerate launch starts it on several GPUs."""
    from models.restorer import Phase
    from restoration.dry_run import cost_table
    from restoration.dry_run import dry_run as cost_of
    from restoration.refstar_config import chosen_settings
    from restoration.refstar_run import train_restoration as run

    settings = settings_of(context)
    training = chosen_settings(config)
    if dry_run:
        with progress_bar("counting") as advance:
            costs = []
            for one in Phase:
                costs.append(cost_of(training, one))
                advance(len(costs), len(Phase))
        console.print(cost_table(costs))
        return
    chosen = refsel or settings.home / "runs" / "refsel" / "best"
    with progress_bar(f"Phase {'I' * phase}") as advance:
        report = run(
            training,
            Phase(phase),
            faces or settings.home / "refsel-hq",
            out or settings.home / "runs" / "restoration",
            weights=weights or settings.home / "weights",
            refsel=chosen if refsel or chosen.is_dir() else None,
            resume=resume is Resume.LATEST,
            progress=advance,
        )
    if report.resumed_from:
        console.print(f"went on from step {report.resumed_from}")
    if report.set_aside:
        console.print(
            f"[yellow]set aside[/] {len(report.set_aside)} files or folders, see report.json"
        )
    if report.scores is not None:
        console.print(
            f"PSNR in the face: input {report.scores.lq:.2f} dB, without a reference "
            f"{report.scores.phase_one:.2f} dB, with it {report.scores.full:.2f} dB"
        )
        console.print(f"the best pipeline is {escape(str(report.best))}")


@app.command(
    "weights",
    rich_help_panel=PANEL,
    epilog="Example: engine weights --config arc2face --check",
)
def weights(
    context: typer.Context,
    config: ConfigOption = "arc2face",
    folder: WeightsOption = None,
    check: Annotated[
        bool, typer.Option(help="Compare every published SHA-256 too; fail if a file is not right.")
    ] = False,
) -> None:
    """List the published weights that a preset needs, from where, on which terms, and what is here."""
    from restoration.refstar_config import chosen_settings
    from restoration.weights import check_weights, weights_list

    place = folder or settings_of(context).home / "weights"
    found = check_weights(chosen_settings(config), place, hashes=check)
    if not found:
        console.print("this preset needs no weights")
        return
    console.print(f"weights in {escape(str(place))}; nothing is downloaded by the engine")
    console.print(weights_list(found), highlight=False)
    wrong = sum(bool(one.problem) for one in found)
    if wrong:
        console.print(f"{wrong} of {len(found)} files are missing or wrong")
    if wrong and check:
        raise typer.Exit(1)

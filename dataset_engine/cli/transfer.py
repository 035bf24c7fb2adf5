"""The command that tests what a restorer takes from its reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, settings_of
from dataset_engine.cli.training import PANEL, ConfigOption
from dataset_engine.progress import console, progress_bar
from dataset_engine.taxonomy import Split

if TYPE_CHECKING:
    from dataset_engine.sample_marks import SamplePair
    from dataset_engine.shards.reader import RefSelSample


@app.command(
    "evaluate-transfer",
    rich_help_panel=PANEL,
    epilog="Example: engine evaluate-transfer refsel-hq --config tiny --sample --out transfer",
)
def evaluate_transfer(
    context: typer.Context,
    shards: Annotated[
        Path | None, typer.Argument(help="RefSel-HQ shards; HOME/refsel-hq otherwise.")
    ] = None,
    config: ConfigOption = "arc2face",
    model: Annotated[
        Path | None,
        typer.Option(help="A pipeline; HOME/runs/restoration/phase-3/best otherwise."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; beside the model otherwise.")
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            help="The shards are of the embedded sample: measure its marks and glasses too."
        ),
    ] = False,
    split: Annotated[
        Split, typer.Option(help="Whose faces; choose settings on validation.")
    ] = Split.TEST,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs at most.")] = 250,
) -> None:
    """Restore with and without the reference: PSNR, marks that came back, controls, a picture."""
    from restoration.evaluate_transfer.run import TransferTest
    from restoration.evaluate_transfer.run import evaluate_transfer as run
    from restoration.evaluate_transfer.summary import transfer_table
    from restoration.refstar_config import chosen_settings

    settings = settings_of(context)
    training = chosen_settings(config)
    model = model or settings.home / "runs" / "restoration" / "phase-3" / "best"

    def known(triplet: RefSelSample) -> SamplePair:
        from dataset_engine.sample_marks import sample_pair

        return sample_pair(settings.seed, triplet.key, triplet.mask)

    with progress_bar("testing the transfer") as advance:
        report = run(
            model,
            shards or settings.home / "refsel-hq",
            out or model.parent / "transfer",
            training.data,
            test=TransferTest(split=split, pairs=pairs, seed=settings.seed),
            known=known if sample else None,
            progress=advance,
        )
    console.print(transfer_table(report.summary))
    console.print(f"the picture is {escape(str(report.sheet))}")

"""The `engine` command: parse, call one function, print.

This is the one module that may import every room. Commands import what they need when they run, so
that `engine --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer.core import TyperGroup

from dataset_engine.error_lines import error_line
from dataset_engine.progress import console, progress_bar
from dataset_engine.settings import Settings

if TYPE_CHECKING:
    from dataset_engine.store import Store

SEEDS_MISSING = 3
"""Exit status of `engine bootstrap` when it is the annotators' turn."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells know it."""


class Answering(TyperGroup):
    """Turns errors into one message that says the cause and the mend."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run a command; a traceback is shown with --debug only."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):  # RuntimeErrors too, but no errors
            raise
        except KeyboardInterrupt:
            console.print("[yellow]stopped[/]: nothing is lost, run the same command to go on")
            sys.exit(INTERRUPTED)
        except Exception as error:
            line = error_line(error, ctx.find_object(Settings))
            if line is None or ctx.params.get("debug"):
                raise
            console.print(f"[red]error:[/] {escape(line)}", highlight=False, soft_wrap=True)
            sys.exit(1)


app = typer.Typer(
    name="engine",
    cls=Answering,
    help="Pairs of faces in, masks corrected in the browser, RefSel-HQ shards and a trained RefSel out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Home = Annotated[
    Path | None,
    typer.Option(help="Folder of all state (or REFSTAR_HOME); ./refstar-home otherwise."),
]


@app.callback()
def engine(
    context: typer.Context,
    home: Home = None,
    debug: Annotated[  # noqa: ARG001 - read by `Answering`
        bool, typer.Option(help="Show where in the code an error came from.")
    ] = False,
) -> None:
    """Read the settings once, for all commands."""
    context.obj = Settings() if home is None else Settings(home=home)


@app.command(epilog="Example: engine demo demo --stay")
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for the demo; made if need be.")] = Path(
        "demo"
    ),
    stay: Annotated[bool, typer.Option(help="Leave Label Studio up, to paint yourself.")] = False,
) -> None:
    """Watch the whole line work on rendered faces: folders to a trained RefSel, in minutes."""
    from annotator.demo import run_demo

    run_demo(_settings(context), out, stay=stay)


@app.command(epilog="Example: engine sample faces --identities 40 --shots 4")
def sample(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to write the identity folders.")],
    identities: Annotated[int, typer.Option(min=1, help="People.")] = 40,
    shots: Annotated[int, typer.Option(min=2, help="Photographs of each.")] = 4,
) -> None:
    """Render the embedded sample: parametric faces with exact landmarks and face regions."""
    from dataset_engine.sample import write_sample

    with progress_bar("rendering faces") as advance:
        seed, workers = _settings(context).seed, os.cpu_count() or 1
        write_sample(folder, identities, shots, seed, advance, workers=workers)
    console.print(f"{identities * shots} faces of {identities} people are in {escape(str(folder))}")


@app.command(epilog="Example: engine --home work ingest CelebRef-HQ --licence research-only")
def ingest(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Holds a folder per identity: IDENTITY/IMAGE.")],
    pairs: Annotated[int, typer.Option(min=1, help="Most pairs made of one identity.")] = 12,
    min_eye_distance: Annotated[
        float | None, typer.Option(help="Least distance of the eyes in the source, px.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence and consent of the source, for exports.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores else.")] = None,
) -> None:
    """Take photographs in: find and align faces, find their face regions, make pairs."""
    from dataset_engine.faces.prepare import PrepareSettings
    from dataset_engine.ingest import ingest as run
    from dataset_engine.reports import ingest_table

    settings = _settings(context)
    if licence is not None:
        settings = settings.model_copy(update={"licence": licence})
    prepare = PrepareSettings(parser_weights=settings.parser_weights)
    if min_eye_distance is not None:
        prepare = replace(prepare, min_eye_distance=min_eye_distance)
    with _store(settings) as store, progress_bar("images and pairs") as advance:
        report = run(
            store,
            settings,
            folder,
            pairs_per_identity=pairs,
            prepare=prepare,
            workers=workers,
            progress=advance,
        )
    console.print(ingest_table(report))


@app.command(epilog="Example: engine --home work annotate --port 8080")
def annotate(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="Port of Label Studio.")] = None,
    service_port: Annotated[int | None, typer.Option(help="Port of the service.")] = None,
) -> None:
    """Open the annotators' workplace, and keep it open until Ctrl-C."""
    from annotator.workplace import hold_open

    given = {"label_studio_port": port, "service_port": service_port}
    update = {name: value for name, value in given.items() if value is not None}
    settings = _settings(context).model_copy(update=update)
    with _store(settings) as store:
        hold_open(store, settings)


@app.command(epilog="Example: engine --home work serve --port 9090")
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Run the pre-annotation service alone (`engine annotate` starts it by itself)."""
    from annotator.service import serve as run

    settings = _settings(context)
    with _store(settings) as store:
        run(store, settings, host or settings.service_host, port or settings.service_port)


@app.command(
    epilog="Example: engine --home work bootstrap --seed 800   (run it again for each round)"
)
def bootstrap(
    context: typer.Context,
    seed: Annotated[int, typer.Option(min=1, help="Pairs that people annotate first.")] = 800,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the U-Net.")] = None,
) -> None:
    """Take a round: seed pairs to people, or train the U-Net and propose masks for the rest.

    Ends with status 3 when it is the annotators' turn.
    """
    from annotator.reports import round_table
    from annotator.rounds import NothingNewError, SeedsMissingError, run_round
    from annotator.workplace import connect
    from dataset_engine.bootstrap_training import BootstrapSettings

    settings = _settings(context)
    training = BootstrapSettings()
    if steps is not None:
        training = replace(training, steps=steps)
    with _store(settings) as store, connect(store, settings) as workplace:
        try:
            report = run_round(
                store, workplace, settings, seed_count=seed, training=training, bar=progress_bar
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


@app.command(epilog="Example: engine --home work sync")
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

    settings = _settings(context)
    with _store(settings) as store, connect(store, settings) as workplace:
        report = sync_workplace(store, workplace, progress_bar, accept_deletions=accept_deletions)
    console.print(sync_line(report))


@app.command(epilog="Example: engine --home work status --json")
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how far the work has come."""
    from dataset_engine.reports import status_tables
    from dataset_engine.store.queries import status_report

    with _store(_settings(context)) as store, store.reading() as session:
        report = status_report(session)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        console.print(status_tables(report))


@app.command(epilog="Example: engine --home work export refsel-hq --allow near-duplicate")
def export(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Argument(help="The data set's folder; HOME/refsel-hq otherwise.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Let through: identity-leak, near-duplicate, mask-outside-region."),
    ] = None,
) -> None:
    """Write the reviewed triplets as a new version of RefSel-HQ shards."""
    from dataset_engine.reports import export_table, named
    from dataset_engine.shards import write_version
    from dataset_engine.store.queries import reviewed_triplets

    settings = _settings(context)
    with _store(settings) as store, progress_bar("exporting") as advance:
        report = write_version(
            reviewed_triplets(store),
            out or settings.home / "refsel-hq",
            allow=frozenset(allow or ()),
            progress=named(advance),
        )
    console.print(export_table(report))


@app.command(epilog="Example: engine verify refsel-hq")
def verify(
    context: typer.Context,
    location: Annotated[
        Path | None, typer.Argument(help="An export, or one of its versions.")
    ] = None,
) -> None:
    """Check every byte of an export; what is broken is named, and the status is 1."""
    from dataset_engine.reports import named, verify_line
    from dataset_engine.shards import verify as run

    with progress_bar("verifying") as advance:
        report = run(location or _settings(context).home / "refsel-hq", progress=named(advance))
    console.print(verify_line(report))
    raise typer.Exit(0 if report.sound else 1)


@app.command(epilog="Example: engine degrade faces/sample-0000 ladder.png --preset paper")
def degrade(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    preset: Annotated[str, typer.Option(help="Named degradation settings.")] = "paper",
) -> None:
    """Show what the degradation does: a contact sheet from mild to severe."""
    from dataset_engine.degradation.sheet import write_ladder
    from dataset_engine.faces.decode import SUFFIXES

    images = [source]
    if source.is_dir():
        images = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    with progress_bar("degrading") as advance:
        sheet = write_ladder(images, out, [preset], seed=_settings(context).seed, progress=advance)
    for left in sheet.set_aside:
        console.print(f"[yellow]set aside[/] {escape(f'{left.path}: {left.reason}')}")
    console.print(f"{sheet.rows} rows are on {escape(str(sheet.path))}")


@app.command(
    "train-refsel", epilog="Example: engine --home work train-refsel refsel-hq --steps 2000"
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

    settings = _settings(context)
    training = read_training(config) if config else RefSelTraining(seed=settings.seed)
    if steps is not None:
        training = replace(training, steps=steps)
    weights = None
    if not from_scratch:
        with _store(settings) as store, store.reading() as session:
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


def main() -> None:
    """Entry point of the `engine` command."""
    app()


def _settings(context: typer.Context) -> Settings:
    settings = context.find_object(Settings)
    assert settings is not None  # noqa: S101
    return settings


def _store(settings: Settings) -> Store:
    from dataset_engine.store import Store

    return Store(settings)


if __name__ == "__main__":
    main()

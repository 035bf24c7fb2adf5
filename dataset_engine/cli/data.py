"""Commands for data: faces in, shards out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar
from dataset_engine.sources.form import Form

PANEL = "Data"


@app.command(rich_help_panel=PANEL, epilog="Example: engine sample faces --identities 40 --shots 4")
def sample(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to write the identity folders.")],
    identities: Annotated[int, typer.Option(min=1, help="People.")] = 40,
    shots: Annotated[int, typer.Option(min=2, help="Photographs of each.")] = 4,
) -> None:
    """Render the embedded sample: parametric faces with exact landmarks and face regions."""
    from dataset_engine.sample import write_sample

    with progress_bar("rendering faces") as advance:
        seed, workers = settings_of(context).seed, os.cpu_count() or 1
        write_sample(folder, identities, shots, seed, advance, workers=workers)
    console.print(f"{identities * shots} faces of {identities} people are in {escape(str(folder))}")


@app.command(
    "sample-shards",
    rich_help_panel=PANEL,
    epilog="Example: engine --home work sample-shards sample-hq --train 300 --test 60",
)
def sample_shards(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder of the shards.")],
    train: Annotated[int, typer.Option(min=1, help="People to train on.")] = 600,
    validation: Annotated[int, typer.Option(min=1, help="People to choose the model by.")] = 20,
    test: Annotated[int, typer.Option(min=1, help="People to test on.")] = 60,
    shots: Annotated[int, typer.Option(min=2, help="Photographs of each.")] = 5,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of each who is no test person.")] = 12,
    per_scenario: Annotated[int, typer.Option(min=1, help="Test pairs of each scenario.")] = 50,
) -> None:
    """Render the embedded sample straight to RefSel-HQ shards, with the exact masks."""
    from dataset_engine.sample_shards import SampleSize, write_sample_shards

    settings = settings_of(context)
    size = SampleSize(train, validation, test, shots, pairs, per_scenario)
    with progress_bar("rendering people") as advance:
        report = write_sample_shards(
            settings.home / "sample", out, size, settings.seed, advance, workers=os.cpu_count() or 1
        )
    console.print(
        f"{report.triplets} pairs of {size.identities} people are in {escape(str(report.folder))}"
    )


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: engine --home work ingest CelebRef-HQ --licence research-only",
)
def ingest(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="A folder of photographs, or a CSV file of pairs.")
    ],
    form: Annotated[
        Form | None, typer.Option(help="The source's form; seen in the source otherwise.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=1, help="Most pairs of one identity, in identity folders.")
    ] = 12,
    identities: Annotated[
        int, typer.Option(min=1, help="Identities that are drawn from CelebA, a pair of each.")
    ] = 1000,
    min_eye_distance: Annotated[
        float | None, typer.Option(help="Least distance of the eyes in the source, px.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the source, for exports.")] = None,
    consent: Annotated[
        str | None, typer.Option(help="What its people agreed to, for exports.")
    ] = None,
    again: Annotated[
        list[str] | None, typer.Option(help="A removed person who may come in again.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores else.")] = None,
) -> None:
    """Take photographs in: find and align faces, find their face regions, make pairs."""
    from dataset_engine.faces.prepare import PrepareSettings
    from dataset_engine.ingest import ingest as run
    from dataset_engine.reports import ingest_table

    settings = settings_of(context)
    given = {"licence": licence, "consent": consent}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    prepare = PrepareSettings(parser_weights=settings.parser_weights)
    if min_eye_distance is not None:
        prepare = replace(prepare, min_eye_distance=min_eye_distance)
    with open_store(settings) as store, progress_bar("images and pairs") as advance:
        report = run(
            store,
            settings,
            source,
            form=form,
            pairs_per_identity=pairs,
            identities=identities,
            prepare=prepare,
            workers=workers,
            again=again or (),
            progress=advance,
        )
    console.print(ingest_table(report))


@app.command(
    "import-shards",
    rich_help_panel=PANEL,
    epilog="Example: engine --home work import-shards refsel-hq",
)
def import_shards(
    context: typer.Context,
    location: Annotated[Path, typer.Argument(help="A published set, or one of its versions.")],
    again: Annotated[
        list[str] | None,
        typer.Option(help="A removed person, SOURCE/NAME, who may come in again."),
    ] = None,
) -> None:
    """Bring a published RefSel-HQ set back into the store, to review and export it further."""
    from dataset_engine.import_shards import import_shards as run
    from dataset_engine.reports import import_table

    settings = settings_of(context)
    with open_store(settings) as store, progress_bar("importing") as advance:
        report = run(store, settings, location, again=again or (), progress=advance)
    console.print(import_table(report))


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: engine --home work export refsel-hq --allow near-duplicate",
)
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

    settings = settings_of(context)
    with open_store(settings) as store, progress_bar("exporting") as advance:
        report = write_version(
            reviewed_triplets(store),
            out or settings.home / "refsel-hq",
            allow=frozenset(allow or ()),
            progress=named(advance),
        )
    console.print(export_table(report))


@app.command(rich_help_panel=PANEL, epilog="Example: engine verify refsel-hq")
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
        report = run(location or settings_of(context).home / "refsel-hq", progress=named(advance))
    console.print(verify_line(report))
    raise typer.Exit(0 if report.sound else 1)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: engine degrade faces/sample-0000 ladder.png --preset paper",
)
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
        sheet = write_ladder(
            images, out, [preset], seed=settings_of(context).seed, progress=advance
        )
    for left in sheet.set_aside:
        console.print(f"[yellow]set aside[/] {escape(f'{left.path}: {left.reason}')}")
    console.print(f"{sheet.rows} rows are on {escape(str(sheet.path))}")

"""Commands that have masks proposed on other machines, with Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, open_store, settings_of
from dataset_engine.progress import console, progress_bar

if TYPE_CHECKING:
    from dataset_engine.store import Store
    from dataset_engine.store.tables import Round

EXAMPLES = 5
Model = Annotated[
    Path | None, typer.Option(help="Folder of the U-Net; the newest round's otherwise.")
]
Version = Annotated[str, typer.Option(help="Its version, when --model is given.")]

proposals = typer.Typer(
    name="proposals",
    help="Propose masks on other machines: list pairs, run on Ray, take the masks back.",
    no_args_is_help=True,
)
app.add_typer(proposals, rich_help_panel="Annotation")


@proposals.command(
    "list", epilog="Example: engine --home work proposals list s3://bucket/pairs.parquet"
)
def proposals_list(
    context: typer.Context,
    out: Annotated[str, typer.Argument(help="List to write: a path or URL, .parquet or .jsonl.")],
    files_at: Annotated[
        str, typer.Option(help="Where workers find the home's images and masks, if elsewhere.")
    ] = "",
) -> None:
    """List the pairs that have no mask of the newest U-Net and no person's decision."""
    from dataset_engine.cluster import list_undecided, write_pair_list

    with open_store(settings_of(context)) as store:
        version = _trained_round(store).model_version
        count = write_pair_list(list_undecided(store, version, files_at=files_at), out)
    console.print(f"{count} pairs for {version} are listed in {escape(out)}")


@proposals.command(
    "run", epilog="Example: engine --home work proposals run pairs.parquet parts --workers 2"
)
def proposals_run(
    context: typer.Context,
    pairs: Annotated[str, typer.Argument(help="The list: a path or URL.")],
    out: Annotated[str, typer.Argument(help="Folder of the parts: a path or URL.")],
    workers: Annotated[int, typer.Option(min=1, help="Models that work at once.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="CPU cores of each worker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each worker.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a forward pass.")] = 4,
    model: Model = None,
    version: Version = "",
) -> None:
    """Propose masks for a list of pairs on Ray; finished parts are kept when it is run again."""
    from dataset_engine.cluster import prepare_job, run_on_ray

    folder, version, _ = _proposing_model(context, model, version)
    job = prepare_job(pairs, folder, version, out, batch_size=batch)
    with progress_bar("proposing masks") as advance:
        report = run_on_ray(
            job,
            workers=workers,
            cpus_a_worker=cpus,
            gpus_a_worker=gpus,
            progress=lambda done, _: advance(done, job.pairs),
        )
    console.print(
        f"{report.parts} parts made, {report.skipped} were there; "
        f"{report.proposed} masks, {report.set_aside} pairs set aside"
    )


@proposals.command("take", epilog="Example: engine --home work proposals take pairs.parquet parts")
def proposals_take(
    context: typer.Context,
    pairs: Annotated[str, typer.Argument(help="The list that was given to `run`.")],
    out: Annotated[str, typer.Argument(help="The folder that was given to `run`.")],
    batch: Annotated[int, typer.Option(min=1, help="As given to `run`.")] = 4,
    model: Model = None,
    version: Version = "",
) -> None:
    """Bring finished masks into the store; taking them again changes nothing."""
    from dataset_engine.cluster import prepare_job, take_parts

    folder, version, number = _proposing_model(context, model, version)
    job = prepare_job(pairs, folder, version, out, batch_size=batch)
    with open_store(settings_of(context)) as store, progress_bar("taking masks") as advance:
        report = take_parts(store, job, number, advance)
    console.print(f"{report.proposed} masks are new, {report.known} were there")
    for key, why in list(report.set_aside.reasons.items())[:EXAMPLES]:
        console.print(f"[yellow]set aside[/] {escape(f'{key}: {why}')}", soft_wrap=True)
    if report.set_aside.count > EXAMPLES:
        console.print(f"... {report.set_aside.count} pairs were set aside in all")
    for why in report.broken_parts:
        console.print(f"[red]broken[/] {escape(why)}", soft_wrap=True)
    if report.missing_parts:
        console.print(f"{report.missing_parts} parts are not finished: run again, then take again")
    if report.missing_parts or report.broken_parts:
        raise typer.Exit(1)


def _trained_round(store: Store) -> Round:
    from dataset_engine.store.queries import usable_round

    with store.reading() as session:
        round_ = usable_round(session)
    if round_ is None:
        raise ValueError("no U-Net is trained yet: take a round with `engine bootstrap` first")
    return round_


def _proposing_model(
    context: typer.Context, model: Path | None, version: str
) -> tuple[Path, str, int]:
    from dataset_engine.stored_pairs import model_folder

    if model is not None:
        if not version:
            raise ValueError("--model needs its --version, such as unet-r2")
        return model, version, 0
    with open_store(settings_of(context)) as store:
        round_ = _trained_round(store)
        return model_folder(store, round_.model_version), round_.model_version, round_.number

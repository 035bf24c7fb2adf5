"""Commands that restore faces and build the sets that restorers are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, settings_of
from dataset_engine.progress import console, progress_bar

if TYPE_CHECKING:
    from restoration.restore.faces import FaceFinder
    from restoration.restore.networks import FaceRestorer

PANEL = "Restoration"
SHOWN = 10
"""How many set-aside files are named on the terminal; the report has all."""


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: engine restore old-photographs --reference anna.jpg -o restored --also comparison",
)
def restore(
    context: typer.Context,
    lq: Annotated[
        Path | None, typer.Argument(metavar="LQ", help="A degraded picture, or a folder of them.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="A picture of the person, or a folder; several times for several."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "restored"
    ),
    model: Annotated[
        Path | None,
        typer.Option(help="A saved pipeline; the newest phase of HOME/runs/restoration otherwise."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Write too: mask, reference (under the mask), comparison, face."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Faces at once.")] = 4,
    scale: Annotated[
        int, typer.Option(min=1, max=8, help="Enlarge pictures, for faces that are small in them.")
    ] = 1,
    aligned: Annotated[
        bool, typer.Option(help="All pictures are aligned faces: look for none.")
    ] = False,
    same_person: Annotated[
        float, typer.Option(min=-1, max=1, help="Least similarity of one person's faces.")
    ] = 0.2,
    strict: Annotated[
        bool,
        typer.Option(help="Set aside odd files and other people's references; fail if any are."),
    ] = False,
    arcface: Annotated[
        Path | None, typer.Option(help="ArcFace as ONNX; HOME/weights/arcface.onnx otherwise.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the networks run: cpu, cuda, cuda:1.")] = "cpu",
    web: Annotated[bool, typer.Option(help="Open a page on this machine instead.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The page's port.")] = 7860,
) -> None:
    """Restore faces from references; run again after a stop, and it goes on."""
    from restoration.restore.jobs import find_jobs
    from restoration.restore.outputs import what_else
    from restoration.restore.run import RestoreSettings, fingerprint, restore_pictures

    home = settings_of(context).home
    folder = model or newest_pipeline(home)
    restorer = _opened(folder, arcface or home / "weights" / "arcface.onnx", device)
    find = _finder(aligned=aligned, scale=scale)
    if web:
        from restoration.restore.web import serve

        console.print(f"the page is http://127.0.0.1:{port}/ until Ctrl-C", highlight=False)
        serve(restorer, find, port)
        return
    if lq is None or not reference:
        raise ValueError("say what to restore: engine restore LQ --reference REF -o OUT, or --web")
    settings = RestoreSettings(batch, same_person, strict, what_else(also or ()))
    jobs, left = find_jobs(lq, reference)
    with progress_bar("restoring faces") as advance:
        report = restore_pictures(
            jobs,
            out,
            restorer,
            find,
            settings,
            left=left,
            model=f"{fingerprint(folder)} scale {scale} aligned {aligned}",
            progress=advance,
        )
    known = f", {report.known} of them before" if report.known else ""
    line = f"{len(report.restored)} pictures are in {out}{known}"
    console.print(escape(line), highlight=False, soft_wrap=True)
    if not restorer.knows_identities:
        console.print("[yellow]note[/] ArcFace's weights are absent: identity was not compared")
    for one in report.restored[:SHOWN]:
        line = f"{Path(one.picture).name} from {one.reference}: {one.why}"
        console.print(escape(line), highlight=False, soft_wrap=True)
        if one.notes:
            line = f"{Path(one.picture).name}: {'; '.join(one.notes)}"
            console.print(f"[yellow]note[/] {escape(line)}", soft_wrap=True)
    for gone in report.left[:SHOWN]:
        line = f"{gone.path}: {gone.reason}: {gone.detail}"
        console.print(f"[yellow]set aside[/] {escape(line)}", soft_wrap=True)
    if len(report.left) > SHOWN:
        console.print(f"... {len(report.left)} files were set aside in all, see restore.json")
    if not report.restored or (strict and report.left):
        raise typer.Exit(1)


@app.command(
    "make-test-set",
    rich_help_panel=PANEL,
    epilog="Example: engine make-test-set CelebA -o celeb-ref-test --trained-on CelebRef-HQ",
)
def make_test_set(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="CelebA with its list of identities, a folder with LQ/ and ref/, or RefSel-HQ shards."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the set.")],
    identities: Annotated[
        int, typer.Option(min=1, help="People, drawn from CelebA or from shards.")
    ] = 1000,
    preset: Annotated[str, typer.Option(help="Named degradation settings.")] = "paper",
    trained_on: Annotated[
        Path | None,
        typer.Option(help="Shards or identity folders of the training: nobody of them may be in."),
    ] = None,
    min_eye_distance: Annotated[
        float, typer.Option(help="Least distance of the eyes in a source, px.")
    ] = 32.0,
) -> None:
    """Build Celeb-Ref-Test, a set like RealRef60 or one of a test split, seeded and with hashes."""
    from dataset_engine.faces.analyser import MediapipeAnalyser
    from dataset_engine.faces.prepare import PrepareSettings
    from dataset_engine.shard_test_set import build_shard_test_set
    from dataset_engine.shards.index import has_versions
    from dataset_engine.sources.detection import detect
    from dataset_engine.sources.form import Form
    from dataset_engine.testing_sets import build_celeb_ref_test, build_real_set
    from dataset_engine.trained_people import trained_people

    shards = has_versions(source)
    form = None if shards else detect(source)
    if not shards and form not in (Form.CELEBA, Form.INPUTS):
        raise ValueError(
            f"{source} is neither CelebA with its list of identities, nor LQ/ and ref/, nor shards"
        )
    settings = settings_of(context)
    trained = None
    if trained_on is not None:
        with progress_bar("looking at who was trained on") as advance:
            trained = trained_people(trained_on, advance)
    prepare = PrepareSettings(
        parser_weights=settings.parser_weights, min_eye_distance=min_eye_distance
    )
    with progress_bar("building the set") as advance:
        if shards:
            made = build_shard_test_set(
                source,
                out,
                count=identities,
                seed=settings.seed,
                degradation=preset,
                trained=trained,
                progress=advance,
            )
        elif form is Form.CELEBA:
            made = build_celeb_ref_test(
                source,
                out,
                MediapipeAnalyser(),
                count=identities,
                seed=settings.seed,
                degradation=preset,
                trained=trained,
                prepare=prepare,
                progress=advance,
            )
        else:
            made = build_real_set(
                source,
                out,
                MediapipeAnalyser(),
                trained=trained,
                prepare=prepare,
                progress=advance,
            )
    line = f"{len(made.faces)} faces are in {out}, SHA-256 {made.sha256[:16]}"
    console.print(escape(line), highlight=False, soft_wrap=True)
    if trained is None and not shards:
        console.print("[yellow]note[/] give --trained-on, so that nobody of the training is in it")
    refused = sum(one.reason == "trained_on" for one in made.left)
    if refused:
        console.print(f"{refused} were refused, since they were trained on")
    others = len(made.left) - refused
    if others:
        console.print(f"{others} files were set aside, see test-set.json")


def newest_pipeline(home: Path) -> Path:
    """The pipeline that a home's training gave last.

    Raises:
        ValueError: there is none that reads a reference.
    """
    runs = home / "runs" / "restoration"
    for phase in (3, 2):
        best = runs / f"phase-{phase}" / "best"
        if best.is_dir():
            return best
    raise ValueError(
        f"{runs} has no pipeline of Phase II or III: train one with `engine train-restoration`, or "
        "give --model"
    )


def _opened(folder: Path, arcface: Path, device: str) -> FaceRestorer:
    from models.identity import OnnxArcFace
    from models.pipeline import RefStarPipeline
    from restoration.restore.networks import FaceRestorer

    pipeline = RefStarPipeline.from_pretrained(folder).to(device)
    return FaceRestorer(pipeline, OnnxArcFace(arcface) if arcface.is_file() else None)


def _finder(*, aligned: bool, scale: int) -> FaceFinder:
    """The engine's face analyser, as the restoration wants it."""
    from dataset_engine.faces.analyser import MediapipeAnalyser
    from dataset_engine.faces.cut_out import CutOutSettings, cut_out
    from dataset_engine.faces.prepare import SetAside
    from restoration.restore.faces import LocatedFace, NotUsable

    analyser = None if aligned else MediapipeAnalyser()
    settings = CutOutSettings(aligned=aligned)

    def find(path: Path) -> LocatedFace:
        try:
            cut = cut_out(path, analyser, settings)
        except SetAside as error:
            raise NotUsable(str(error.reason), error.detail) from error
        return LocatedFace(cut.aligned, lambda face: cut.paste(face, scale), cut.notes)

    return find

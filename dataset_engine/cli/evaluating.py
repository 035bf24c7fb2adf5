"""Commands that measure restorers: the paper's tables, and why a face came out as it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from dataset_engine.cli.app import app, settings_of
from dataset_engine.cli.restoring import newest_pipeline
from dataset_engine.cli.training import PANEL, ConfigOption, WeightsOption
from dataset_engine.progress import console, progress_bar

if TYPE_CHECKING:
    from dataset_engine.sample_marks import SamplePair
    from dataset_engine.shards.reader import RefSelSample


@app.command(
    "evaluate",
    rich_help_panel=PANEL,
    epilog="Example: engine evaluate celeb-ref-test RefSTAR=restored GFPGAN=gfpgan --out report",
)
def evaluate(
    context: typer.Context,
    test_set: Annotated[
        Path | None,
        typer.Argument(help="Test set with gt, lq and ref; none prints the paper's figures alone."),
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Argument(help="NAME=FOLDER of each method's restored images.")
    ] = None,
    real_set: Annotated[
        Path | None, typer.Option(help="Test set without ground truths: lq and ref (RealRef60).")
    ] = None,
    real: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a method's results on it; repeat it.")
    ] = None,
    ffhq: Annotated[
        Path | None, typer.Option(help="Images that FID compares with on the real set (FFHQ).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; HOME/evaluation otherwise.")
    ] = None,
    weights: WeightsOption = None,
    looks: Annotated[
        int, typer.Option(min=0, help="Faces of each set that are shown in pictures.")
    ] = 12,
) -> None:
    """Measure any methods' results, beside the paper's Table 1; writes tables and a page."""
    from restoration.evaluate_methods.result_folders import method_folders
    from restoration.evaluate_methods.run import (
        EvaluationSettings,
        SetResults,
        evaluate_methods,
    )
    from restoration.evaluate_methods.table_one import TestSet
    from restoration.evaluate_methods.terminal import evaluation_tables
    from restoration.metric_tools import MetricWeights, open_tools

    settings = settings_of(context)
    given = {}
    if test_set is not None:
        given[TestSet.SYNTHETIC] = SetResults(test_set, method_folders(methods or []))
    if real_set is not None:
        given[TestSet.REAL] = SetResults(real_set, method_folders(real or []), ffhq)
    tools = open_tools(MetricWeights.in_folder(weights or settings.home / "weights"))
    with progress_bar("measuring") as advance:
        result = evaluate_methods(
            given,
            out or settings.home / "evaluation",
            tools,
            EvaluationSettings(looks=looks, seed=settings.seed),
            progress=advance,
        )
    for table in evaluation_tables(result.rows, result.columns):
        console.print(table)
    for note in result.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    for problem in result.problems[:20]:
        console.print(f"[yellow]left out[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if len(result.problems) > 20:
        console.print(f"[yellow]and {len(result.problems) - 20} more[/], see the report")
    console.print(f"the report is {escape(str(result.page))}")


@app.command(
    "ablate",
    rich_help_panel=PANEL,
    epilog="Example: engine ablate refsel-hq --config tiny --sample --seeds 3 --out ablation",
)
def ablate(
    context: typer.Context,
    shards: Annotated[
        Path | None, typer.Argument(help="RefSel-HQ shards; HOME/refsel-hq otherwise.")
    ] = None,
    config: ConfigOption = "tiny",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the ablation; HOME/runs/ablation otherwise.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each row is trained with.")] = 3,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of Phase II a row; the configuration's otherwise."),
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="How many test pairs are measured.")] = 250,
    phase_one: Annotated[
        Path | None,
        typer.Option(help="A run whose Phase I all rows start from; one is trained otherwise."),
    ] = None,
    refsel: Annotated[
        Path | None, typer.Option(help="A trained RefSel; HOME/runs/refsel/best otherwise.")
    ] = None,
    weights: WeightsOption = None,
    sample: Annotated[
        bool,
        typer.Option(
            help="The shards are of the embedded sample: measure its marks and glasses too."
        ),
    ] = False,
) -> None:
    """Train and test the rows of the paper's Table 2; run again after a stop, and it goes on."""
    from restoration.ablation.run import Budget
    from restoration.ablation.run import ablate as run
    from restoration.ablation.summary import ablation_table, findings
    from restoration.refstar_config import chosen_settings

    settings = settings_of(context)
    chosen = refsel or settings.home / "runs" / "refsel" / "best"

    def known(triplet: RefSelSample) -> SamplePair:
        from dataset_engine.sample_marks import sample_pair

        return sample_pair(settings.seed, triplet.key, triplet.mask)

    with progress_bar("ablation") as advance:
        result = run(
            chosen_settings(config),
            shards or settings.home / "refsel-hq",
            out or settings.home / "runs" / "ablation",
            Budget(tuple(range(seeds)), steps, faces),
            weights=weights or settings.home / "weights",
            refsel=chosen if refsel or chosen.is_dir() else None,
            first_phase=phase_one,
            known=known if sample else None,
            progress=lambda _what, done, total: advance(done, total),
        )
    console.print(ablation_table(result.results, f"Table 2 with {config}, {seeds} seeds"))
    for one in findings(result.results):
        console.print(one.line, highlight=False, markup=False)
    console.print(f"tables and pictures are in {escape(str(result.folder))}")


@app.command(
    "explain",
    rich_help_panel=PANEL,
    epilog="Example: engine explain lq.png ref.png --model runs/restoration/phase-3/best -o why.html",
)
def explain(
    context: typer.Context,
    degraded: Annotated[Path, typer.Argument(help="The degraded face, aligned and square.")],
    reference: Annotated[Path, typer.Argument(help="The reference, in the same form.")],
    model: Annotated[
        Path | None,
        typer.Option(help="A pipeline; the newest phase of HOME/runs/restoration otherwise."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="White where the reference may be used; RefSel otherwise.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The ground truth, to be shown beside.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("explained.html"),
) -> None:
    """Write a page on one pair: click a place of the result, see where on the reference it looked."""
    from models.pipeline import RefStarPipeline
    from restoration.explain.run import explain as run

    home = settings_of(context).home
    pipeline = RefStarPipeline.from_pretrained(model or newest_pipeline(home))
    run(pipeline, degraded, reference, out, mask=mask, truth=truth)
    console.print(f"the page is {escape(str(out))}")

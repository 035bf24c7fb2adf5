"""What every command shares: the application, its settings, and one message for an error."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer.core import TyperGroup

from dataset_engine.error_lines import error_line
from dataset_engine.progress import console
from dataset_engine.settings import Settings

if TYPE_CHECKING:
    from dataset_engine.store import Store

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


def _say_version(wanted: bool) -> None:
    """Print which version this is, and end."""
    if wanted:
        typer.echo(f"engine {version('refstar-engine')}")
        raise typer.Exit


@app.callback()
def engine(
    context: typer.Context,
    home: Home = None,
    say_version: Annotated[  # noqa: ARG001 - its callback ends the run
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[  # noqa: ARG001 - read by `Answering`
        bool, typer.Option(help="Show where in the code an error came from.")
    ] = False,
) -> None:
    """Read the settings once, for all commands."""
    context.obj = Settings() if home is None else Settings(home=home)


def settings_of(context: typer.Context) -> Settings:
    """The settings that were read for this command."""
    settings = context.find_object(Settings)
    assert settings is not None  # noqa: S101
    return settings


def open_store(settings: Settings) -> Store:
    """The store of these settings; close it, or use it as a context."""
    from dataset_engine.store import Store

    return Store(settings)

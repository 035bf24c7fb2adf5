"""One look for every progress bar: what is done, how fast, how long it will still take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console()

Advance = Callable[[int, int | None], None]
"""Is told how many steps are done, and of how many (None when nobody knows)."""


def silent(done: int, total: int | None) -> None:
    """An `Advance` that shows nothing."""


class RateColumn(ProgressColumn):
    """Steps a second, or seconds a step when it is slow."""

    def render(self, task: Task) -> Text:
        """The rate of the last moments, or of the whole when it has ended."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("-/s")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


@contextmanager
def progress_bar(description: str) -> Iterator[Advance]:
    """Show a bar while the block runs.

    Args:
        description: what is going on, in a few words.

    Yields:
        A function that is told how many steps are done so far, and of how many.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""Tables print whatever files, people and servers are called."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, RenderableType

from annotator.reports import round_table, sync_line
from annotator.rounds import RoundReport
from annotator.sync import SyncReport
from dataset_engine.ingest_files import Left
from dataset_engine.ingest_report import IngestReport
from dataset_engine.reports import ingest_table, verify_line
from dataset_engine.shards import VerifyReport

ODD = "a [/old]/[red]x.jpg"


def shown(renderable: RenderableType) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_names_with_brackets_are_shown_as_they_are() -> None:
    left = Left(Path("/faces") / ODD, "near_duplicate", f"nearly the same as {ODD}")
    text = shown(ingest_table(IngestReport(left=[left], report=Path(ODD), relicensed=3)))
    assert text.count(ODD) == 3
    assert "3 identities" in text
    assert ODD in shown(verify_line(VerifyReport(ODD, 0, 0, 0, ())))


def test_names_from_the_annotators_workplace_are_shown_as_they_are() -> None:
    sync = SyncReport()
    sync.unusable["3"] = ODD
    assert ODD in shown(sync_line(sync))
    report = RoundReport(1, "unet-r1")
    report.notes.append(ODD)
    report.set_aside["key"] = ODD
    assert shown(round_table(report)).count(ODD) == 2

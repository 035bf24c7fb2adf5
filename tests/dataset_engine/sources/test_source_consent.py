"""What a source says of licence and consent goes from `engine ingest` to the card of the export."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from dataset_engine.cli import app
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import propose_face_region
from dataset_engine.store.queries import undecided
from dataset_engine.store.reviews import Decision, EventKind, Source, record
from dataset_engine.store.tables import AnnotationProject, Pair

pytestmark = pytest.mark.usefixtures("cheap_faces", "settings")
CONSENT = "written, 2025 | may be withdrawn"


def engine(home: Path, *words: str) -> None:
    answer = CliRunner().invoke(app, ["--home", str(home), *words])
    assert answer.exit_code == 0, answer.output


def accept_all(home: Path) -> None:
    with Store(Settings(home=home)) as store:
        propose_face_region(store, list(undecided(store, without_model="")))
        with store.writing() as session:
            session.add(AnnotationProject(id=1, server="home", project=1))
        with store.reading() as session:
            regions = {pair.id: pair.ref.region_sha256 for pair in session.scalars(select(Pair))}
        for pair, region in regions.items():
            assert region is not None
            decision = Decision(
                pair_id=pair,
                project_id=1,
                annotation=pair,
                updated_at=datetime(2026, 1, 1, tzinfo=UTC),
                kind=EventKind.SUBMITTED,
                source=Source.WEBHOOK,
                actor="béa",
                accepted=True,
                mask=store.mask(region),
            )
            assert record(store, decision).new


def stated(version: Path) -> Counter[tuple[str, str, str]]:
    """Source, licence and consent of each sample, as its own JSON in the shards has them."""
    found: Counter[tuple[str, str, str]] = Counter()
    for shard in version.rglob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    read = archive.extractfile(member)
                    assert read is not None
                    fields = json.load(read)
                    found[fields["source"], fields["licence"], fields["consent"]] += 1
    return found


def rows(version: Path, heading: str) -> dict[str, int]:
    """Value and sum of each row of a table on the card."""
    text = (version / "README.md").read_text(encoding="utf-8")
    table = text.partition(f"| {heading} | train |")[2].partition("\n\n")[0]
    cells = [line.strip("| ").rsplit(" | ", 4) for line in table.splitlines()[2:]]
    return {row[0]: int(row[4]) for row in cells}


def test_licence_and_consent_of_a_source_are_in_every_sample_and_on_the_card(
    put: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(6):
        person = ("celebs/anna", "celebs/carl", "friends/ben")[number // 2]
        put(f"{person}/{number}.jpg", number)
    home, out = tmp_path / "home", tmp_path / "out"
    given = ["--licence", "research-only", "--consent", CONSENT]
    engine(home, "ingest", str(tmp_path / "celebs"), "--workers", "1", *given)
    engine(home, "ingest", str(tmp_path / "friends"), "--workers", "1")
    accept_all(home)
    engine(home, "export", str(out))
    first = out / "v001"
    assert stated(first) == {
        ("celebs", "research-only", CONSENT): 4,
        ("friends", "unknown", "unknown"): 2,
    }
    assert rows(first, "source") == {"celebs": 4, "friends": 2}
    assert rows(first, "licence") == {"research-only": 4, "unknown": 2}
    assert rows(first, "consent") == {CONSENT.replace("|", r"\|"): 4, "unknown": 2}

    # stated later: a new version says so, and a set that is taken over keeps what was stated
    engine(home, "ingest", str(tmp_path / "friends"), "--workers", "1", "--consent", "by word")
    engine(home, "export", str(out))
    assert stated(out / "v002")["friends", "unknown", "by word"] == 2
    assert stated(out / "v001") == stated(first)
    other, again = tmp_path / "other", tmp_path / "again"
    engine(other, "import-shards", str(out))
    engine(other, "export", str(again))
    assert stated(again / "v001") == stated(out / "v002")

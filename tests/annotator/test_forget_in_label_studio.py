"""`engine forget` with a real Label Studio: the person's tasks go there too, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from annotator.connection import LabelStudioError
from annotator.label_studio import LabelStudio
from annotator.results import review_result
from annotator.server import LabelStudioServer
from dataset_engine.cli import app
from dataset_engine.settings import Settings
from dataset_engine.shards.index import Index
from dataset_engine.store import Store
from dataset_engine.store.tables import Image, Pair
from dataset_engine.taxonomy import Conflict

pytestmark = pytest.mark.slow

GONE = "test/person-1"
PROJECT = "Somebody asks to be removed"


def engine(settings: Settings, *words: str, expected: int = 0) -> Result:
    answer = CliRunner().invoke(app, ["--home", str(settings.home), *words])
    assert answer.exit_code == expected, answer.output
    return answer


def identities(version: Path) -> set[str]:
    return {sample.identity for shard in Index(version).shards() for sample in shard.samples}


def test_a_forgotten_persons_tasks_leave_label_studio_and_nobody_elses(
    store: Store,
    settings: Settings,
    fill: Callable[..., None],
    label_studio_server: LabelStudioServer,
    label_studio: LabelStudio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio_server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio_server.credentials.token)
    monkeypatch.setenv("REFSTAR_LABEL_STUDIO_PROJECT", PROJECT)
    fill(identities=3)
    engine(settings, "bootstrap", "--seed", "6", expected=3)  # the annotators' turn
    project = label_studio.ensure_project(PROJECT)
    with store.reading() as session:
        names = {pair.key: f"test/{pair.identity.name}" for pair in session.query(Pair)}
        region = store.mask(session.get_one(Image, 1).region_sha256)
    tasks = label_studio.task_ids(project)
    assert tasks.keys() == names.keys()
    painted = region.copy()
    painted[300:330] = False
    answer = review_result(painted, frozenset({Conflict.MOUTH}), "accept")
    for task in tasks.values():
        label_studio.submit_annotation(task, answer, 5.0)
    engine(settings, "sync")
    out = tmp_path / "out"
    engine(settings, "export", str(out), "--allow", "near-duplicate")

    said = engine(settings, "forget", GONE, "--yes", "--exports", str(out)).output

    stays = {key: task for key, task in tasks.items() if names[key] != GONE}
    assert len(stays) == 4
    assert label_studio.task_ids(project) == stays
    seen = json.dumps(list(label_studio.changed_tasks(project)), default=str)
    assert not [key for key in tasks if (key in seen) != (key in stays)]
    with pytest.raises(LabelStudioError):
        label_studio.task(next(task for key, task in tasks.items() if key not in stays))
    assert "v001" in said

    # what comes after it brings nobody back
    engine(settings, "sync")
    engine(settings, "export", str(out), "--allow", "near-duplicate")
    assert identities(out / "v001") == set(names.values())
    assert identities(out / "v002") == set(names.values()) - {GONE}
    assert label_studio.task_ids(project) == stays
    assert len(list(label_studio.annotations(project))) == len(stays)

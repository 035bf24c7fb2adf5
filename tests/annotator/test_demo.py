"""`engine demo`, small: every stage by its real command, and a page with pictures at the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest

from annotator.demo import DemoSize, run_demo
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.queries import status_report

SMALL = DemoSize(identities=10, shots=3, pairs=3, seeds=6, unet_steps=2, refsel_steps=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_goes_from_folders_to_a_trained_refsel(
    settings: Settings,
    label_studio_command: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFSTAR_LABEL_STUDIO_COMMAND", str(label_studio_command))
    page = run_demo(settings, tmp_path / "demo", stay=False, size=SMALL)
    with Store(settings) as store, store.reading() as session:
        report = status_report(session)
    assert sum(report.pairs.values()) == 30
    assert report.pairs["accepted"] + report.pairs["adjusted"] == 30
    assert [round_["stage"] for round_ in report.rounds] == ["done"]
    assert sum(report.scenarios.values()) > 10

    run = json.loads((settings.home / "runs" / "refsel" / "report.json").read_text())
    assert run["everything"]["scores"]["pairs"] == 3
    html = page.read_text()
    pictures = re.findall(r'src="(pictures/[^"]+)"', html)
    assert pictures
    for picture in pictures:
        assert cv2.imread(str(page.parent / picture)).shape[1] > 1000
    assert (page.parent / "contact-sheet.jpg").is_file()
    assert "nan" not in html.lower().replace("nanum", "")
    assert not (settings.home / "annotate.json").exists()

"""The pages of `engine explain` and `engine evaluate`, opened as files in a real browser and clicked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from models.backbones import TinyBackbone
from models.pipeline import RefStarPipeline
from models.prompts import PlainPrompt
from models.reference_features import ReferenceAttentionSettings
from models.restorer import Restorer, RestorerConfig
from restoration.evaluate_methods.run import (
    EvaluationSettings,
    SetResults,
    evaluate_methods,
)
from restoration.evaluate_methods.table_one import TestSet
from restoration.explain.run import explain
from restoration.metric_tools import MetricWeights, open_tools

pytestmark = [pytest.mark.slow, pytest.mark.browser]

SIZE = {"width": 1280, "height": 900}


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A tab that fails the test if a script fails or anything is fetched."""
    context = chromium.new_context(viewport=SIZE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            errors.append(request.url) if not request.url.startswith(("file:", "data:")) else None
        ),
    )
    yield page
    context.close()
    assert not errors


def blotches(seed: int, side: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC))


def red_at(tab: Page, canvas: str, x: float, y: float) -> int:
    """How much redder than green a pixel of a canvas is; x and y in shares of its side."""
    return int(
        tab.evaluate(
            """([id, x, y]) => {
              const made = document.getElementById(id);
              const p = made.getContext('2d').getImageData(x * made.width, y * made.height, 1, 1).data;
              return p[0] - p[1];
            }""",
            [canvas, x, y],
        )
    )


def brightness(tab: Page, canvas: str, x: float, y: float) -> float:
    """Mean of a pixel's channels, 0 to 1."""
    levels = tab.evaluate(
        """([id, x, y]) => {
          const made = document.getElementById(id);
          return [...made.getContext('2d').getImageData(x * made.width, y * made.height, 1, 1).data];
        }""",
        [canvas, x, y],
    )
    return float(sum(levels[:3])) / 765


@pytest.fixture
def explained(tmp_path: Path) -> Path:
    """The page on a grey reference whose right quarter the mask leaves out."""
    tiny = TinyBackbone(image_size=64, widths=(16, 32), groups=8, heads=2, prompt_width=8)
    torch.manual_seed(0)
    attention = ReferenceAttentionSettings(position_sigmas=(0.5, 0.5))
    restorer = Restorer(
        tiny.unet(),
        tiny.autoencoder(),
        RestorerConfig(timestep=250, lora=None, attention=attention),
    )
    restorer.add_reference()
    grey = np.full((64, 64, 3), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "ref.png"), grey)
    cv2.imwrite(str(tmp_path / "lq.png"), blotches(1, 64))
    mask = np.full((64, 64), 255, np.uint8)
    mask[:, 48:] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    page = tmp_path / "why.html"
    explain(
        RefStarPipeline(restorer.eval(), PlainPrompt(tiny.prompt())),
        tmp_path / "lq.png",
        tmp_path / "ref.png",
        page,
        mask=tmp_path / "mask.png",
    )
    return page


def test_a_click_on_the_result_lights_up_its_place_on_the_reference(tab: Page, explained: Path):
    tab.goto(explained.as_uri())
    expect(tab.locator("body[data-ready=yes]")).to_be_attached()
    said = tab.locator("#said")
    expect(said).to_have_text("Click the result.")
    assert red_at(tab, "reference", 0.28, 0.53) == 0
    tab.locator("#result").click(position={"x": 0.28 * 500, "y": 0.53 * 500})
    expect(said).to_contain_text("Place (4, 8) looked most at (4, 8)")
    assert red_at(tab, "reference", 0.28, 0.53) > 60
    assert red_at(tab, "reference", 0.72, 0.1) == 0
    tab.locator("#mode").select_option("origin")
    expect(said).to_contain_text("has the colour of the place")
    assert brightness(tab, "reference", 0.9, 0.5) < 0.35  # what the mask leaves out stays dark
    assert brightness(tab, "reference", 0.28, 0.53) > 0.45
    tab.locator("#mode").select_option("share")
    expect(said).to_contain_text("came from the reference")
    tab.locator("#map").select_option(index=1)
    tab.locator("#result").click(position={"x": 10, "y": 10})
    expect(said).to_contain_text("Place (0, 0)")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowDown")
    expect(said).to_contain_text("Place (1, 1)")


def test_the_page_fits_on_a_phone(chromium: Browser, explained: Path):
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.goto(explained.as_uri())
    expect(page.locator("body[data-ready=yes]")).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#result").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.28, box["y"] + box["height"] * 0.53)
    expect(page.locator("#said")).to_contain_text("Place (4, 8)")
    page.close()


def test_a_dot_of_the_scatter_names_its_face_and_leads_to_it(tab: Page, tmp_path: Path):
    for number in range(5):
        truth = blotches(number, 64)
        for role, blur in (("gt", 0), ("lq", 9), ("one", 3), ("two", 5)):
            place = tmp_path / ("set" if role in ("gt", "lq") else ".") / role
            place.mkdir(parents=True, exist_ok=True)
            image = cv2.GaussianBlur(truth, (0, 0), blur) if blur else truth
            cv2.imwrite(str(place / f"face-{number}.png"), image)
    result = evaluate_methods(
        {
            TestSet.SYNTHETIC: SetResults(
                tmp_path / "set", {"one": tmp_path / "one", "<two>": tmp_path / "two"}
            )
        },
        tmp_path / "out",
        open_tools(MetricWeights.in_folder(tmp_path)),
        EvaluationSettings(looks=5),
    )
    tab.goto(result.page.as_uri())
    expect(tab.locator("#plot circle")).to_have_count(5)
    tab.locator("#across").select_option("one")
    tab.locator("#up").select_option("<two>")
    expect(tab.locator("#said")).to_have_text("<two> is higher on 0 of 5 faces.")
    dot = tab.locator("#plot circle[data-face=face-3]")
    dot.click()
    expect(tab.locator("#said")).to_contain_text("face-3: one ")
    expect(tab.locator("[id='face-Celeb-Ref-Test-face-3']")).to_be_in_viewport()
    tab.locator("#metric").select_option("SSIM")
    expect(tab.locator("#plot circle")).to_have_count(5)
    expect(tab.locator("#table td", has_text="<two>")).to_be_visible()

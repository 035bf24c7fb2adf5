"""The restoration page in a real browser: drop, look, paint, restore again, compare."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import torch
import uvicorn
from playwright.sync_api import Browser, Locator, Page, expect

from models.pipeline import RefStarPipeline
from models.refsel import RefSel
from restoration.restore.faces import LocatedFace, NotUsable
from restoration.restore.networks import FaceRestorer
from restoration.restore.web import application

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    # gradio's own: what pandas means to drop, and files that it leaves to the garbage collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ENOUGH = 120_000


class HalfSelected(RefSel):
    """Selects the left half of every reference."""

    def probability(self, first: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        chosen = torch.zeros_like(reference[:, 0])
        chosen[..., : chosen.shape[-1] // 2] = 1
        return chosen


def find(path: Path) -> LocatedFace:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None or "nobody" in path.name:
        raise NotUsable("no_face", "no face found")
    return LocatedFace(np.asarray(image, np.uint8), lambda face: face)


def picture(path: Path, seed: int) -> Path:
    rough = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(rough, (128, 128), interpolation=cv2.INTER_CUBIC))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Callable[..., RefStarPipeline]
) -> Iterator[str]:
    pytest.importorskip("gradio")
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    port = free_port()
    app = application(FaceRestorer(tiny_pipeline(HalfSelected)), find)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 1500})
    page = context.new_page()
    page.set_default_timeout(ENOUGH)
    yield page
    context.close()


def drop(page: Page, name: str, path: Path) -> None:
    page.locator(f"#{name} input[type=file]").set_input_files(str(path))
    expect(page.locator(f"#{name} img")).to_be_visible(timeout=ENOUGH)


def restore_two(page: Page, address: str, folder: Path) -> Locator:
    """Open the page, drop an input and a reference on it, and ask; where it says what it did."""
    page.goto(address)
    drop(page, "lq", picture(folder / "lq.png", 1))
    drop(page, "reference", picture(folder / "ref.png", 2))
    page.click("#restore")
    return page.locator("#said")


def test_two_photographs_are_restored_the_mask_painted_and_restored_again(
    page: Page, address: str, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    said = restore_two(page, address, tmp_path)
    expect(said).to_contain_text("50% of the reference is used", timeout=ENOUGH)
    expect(page.locator("#whole img")).to_be_visible()
    expect(page.locator("#slider img").first).to_be_visible()
    before = page.locator("#whole img").get_attribute("src")

    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    box = canvas.bounding_box()
    assert box is not None
    shots = os.environ.get("REFSTAR_SCREENSHOTS")
    if shots:
        page.screenshot(path=f"{shots}/restore-page.png", full_page=True)
    # Each movement draws the editor anew, in software here: few and long ones.
    for height in (0.3, 0.45, 0.6):
        y = box["y"] + box["height"] * height
        page.mouse.move(box["x"] + box["width"] * 0.55, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, y, steps=2)
        page.mouse.up()
    page.wait_for_timeout(500)
    if shots:
        page.screenshot(path=f"{shots}/restore-page-painted.png", full_page=True)
    page.click("#again")
    expect(said).not_to_contain_text("50% of the reference", timeout=ENOUGH)
    share = int(said.inner_text().partition("%")[0])
    assert 50 < share <= 70  # half, and the painted strokes
    expect(page.locator("#whole img")).not_to_have_attribute("src", before or "", timeout=ENOUGH)
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not elsewhere


def shown_from(page: Page) -> float:
    """The share of its width from which the slider shows the restored face, in percent."""
    styles = page.locator("#slider img").evaluate_all("all => all.map(one => one.style.clipPath)")
    (clipped,) = [style for style in styles if style]
    return float(re.findall(r"([\d.]+)%", clipped)[-1])


def drag_slider(page: Page, share: float) -> None:
    """Drag the slider to a share of its picture's width."""
    page.locator("#slider").scroll_into_view_if_needed()
    handle = page.locator("#slider [data-testid=slider]").bounding_box()
    image = page.locator("#slider img").first.bounding_box()
    assert handle is not None
    assert image is not None
    y = image["y"] + image["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(image["x"] + image["width"] * share, y, steps=3)
    page.mouse.up()


@pytest.mark.timeout(1800)
def test_the_command_serves_the_page_with_a_slider_and_leaves_no_photograph_behind(
    page: Page, tmp_path: Path, tiny_pipeline: Callable[..., RefStarPipeline]
) -> None:
    pytest.importorskip("gradio")
    tiny_pipeline(RefSel).save_pretrained(tmp_path / "model")
    private = tmp_path / "private"
    private.mkdir()
    port = free_port()
    words = ["--home", "home", "restore", "--web", "--aligned", "--model", "model"]
    running = subprocess.Popen(
        [sys.executable, "-m", "dataset_engine.cli", *words, "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(private)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(address, running)
        said = restore_two(page, address, tmp_path)
        expect(said).to_contain_text("of the reference is used", timeout=ENOUGH)
        expect(said).to_contain_text("ArcFace's weights are absent: identity was not compared")
        expect(page.locator("#slider img")).to_have_count(2)
        drag_slider(page, 0.25)
        assert shown_from(page) == pytest.approx(25, abs=3)
        drag_slider(page, 0.75)
        assert shown_from(page) == pytest.approx(75, abs=3)
        assert list(private.rglob("*lq*.png"))
    finally:
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=300)
    assert running.returncode in (0, 130), output
    assert f"the page is http://127.0.0.1:{port}/ until Ctrl-C" in output
    assert "Traceback" not in output
    assert not list(private.rglob("*.png"))


def wait_for(address: str, running: subprocess.Popen[str]) -> None:
    """Wait until a server answers."""
    while running.poll() is None:
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the command ended: {running.stdout.read() if running.stdout else ''}")


def test_a_picture_without_a_face_is_said_on_the_page(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.goto(address)
    drop(page, "lq", picture(tmp_path / "nobody.png", 1))
    drop(page, "reference", picture(tmp_path / "ref.png", 2))
    page.click("#restore")
    expect(page.get_by_text("no face found (no_face)")).to_be_visible(timeout=ENOUGH)


def test_another_hosts_name_is_refused_and_nothing_may_be_loaded_from_elsewhere(
    address: str,
) -> None:
    assert httpx.get(address, headers={"Host": "faces.example"}).status_code == 400
    policy = httpx.get(address).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy

"""A person at Label Studio's labelling page: a real Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, Page, Response, sync_playwright

from annotator.server import Credentials, LabelStudioServer

TIMEOUT = 30_000
STILL = 0.6
"""Seconds without a change after which the editor has finished building its store and stage."""

# The editor replaces its store shortly after it says that it is ready; a selection or a stroke made
# before that is lost. So a page counts as settled when the annotation, the stage's place and its
# layer have not changed for a while.
STATE = """() => {
  const store = window.Htx && window.Htx.annotationStore;
  const annotation = store && store.selected;
  const ref = annotation && annotation.names.get('ref');
  if (!ref || !ref.imageIsLoaded || !ref.stageRef || !ref.stageRef.content) return null;
  if (annotation.type !== 'annotation' || !annotation.editable) return null;
  const regions = annotation.regions;
  if (regions.some(r => r.type === 'brushregion' && !r.layerRef)) return null;
  const box = ref.stageRef.content.getBoundingClientRect();
  if (!box.width) return null;
  return {
    key: [annotation.id, box.x, box.y, box.width, box.height, regions.length].join(' '),
    box: [box.x, box.y, box.width, box.height],
    regions: regions.filter(r => r.type === 'brushregion').map(r => ({
      id: r.id,
      label: (r.labeling && r.labeling.getSelectedString ? r.labeling.getSelectedString() : ''),
      touches: r.touches.length,
      selected: !!r.selected,
    })),
  };
}"""


class StudioPage:
    """The labelling page of one task, in the words of an annotator.

    Positions are pixels of the 512x512 reference, whatever size it is shown at.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self._smart = False
        page.set_default_timeout(TIMEOUT)

    def login(self, credentials: Credentials) -> None:
        self.page.goto(f"{self.url}/user/login/", wait_until="domcontentloaded")
        self.page.fill("input[name=email]", credentials.username)
        self.page.fill("input[name=password]", credentials.password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/login" not in url, wait_until="domcontentloaded")

    def open_task(self, project: int, task: int) -> None:
        """Open a task from the list ("quick view"), and wait until it can be painted on."""
        self.page.goto(
            f"{self.url}/projects/{project}/data?task={task}", wait_until="domcontentloaded"
        )
        self._smart = False
        self.settle()

    def settle(self) -> dict[str, Any]:
        """Wait until nothing moves any more; gives the editor's state."""
        deadline = self.page.evaluate("performance.now()") + TIMEOUT
        key, since = "", 0.0
        while True:
            state = self.page.evaluate(STATE)
            now = self.page.evaluate("performance.now()")
            if state is None or state["key"] != key:
                key, since = (state or {"key": ""})["key"], now
            elif now - since >= STILL * 1000:
                return dict(state)
            if now > deadline:
                raise AssertionError("the labelling page did not settle")
            self.page.wait_for_timeout(50)

    def regions(self) -> list[dict[str, Any]]:
        """Brush regions on the reference: id, label, touches (strokes), selected."""
        return list(self.settle()["regions"])

    def select_region(self, label: str) -> None:
        """Select the first region with this label, so that strokes extend it."""
        for _ in range(len(self.regions()) + 1):
            if any(r["selected"] and r["label"] == label for r in self.regions()):
                return
            self.page.keyboard.press("Alt+.")
        raise AssertionError(f"no region {label!r} could be selected: {self.regions()}")

    def take_label(self, label: str) -> None:
        """Take a brush label, so that the next stroke begins a region of its own."""
        self.page.keyboard.press("Escape")
        self.page.locator(".lsf-labels .lsf-label", has_text=label).click()
        self.settle()

    def stroke(self, points: Sequence[tuple[float, float]]) -> None:
        """Paint one stroke through these pixels of the reference."""
        before = self.settle()
        left, top, width, height = before["box"]
        places = [(left + x / 512 * width, top + y / 512 * height) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places:
            self.page.mouse.move(*place, steps=8)
        self.page.mouse.up()
        count = sum(region["touches"] for region in before["regions"])
        after = self.settle()
        assert sum(region["touches"] for region in after["regions"]) == count + 1, after

    def auto_annotate(self) -> None:
        """Switch clicks on, as the two toggles below the page do, from the next page on."""
        self.page.add_init_script(
            "for (const name of ['autoAnnotation', 'autoAcceptSuggestions'])"
            " localStorage.setItem(name, 'true')"
        )

    def click_part(self, x: float, y: float, *, negative: bool = False) -> dict[str, Any]:
        """Click a pixel of the reference with the smart tool, and wait for what the service answers."""
        left, top, width, height = self.settle()["box"]
        keyboard = self.page.keyboard
        keyboard.press("Escape")
        keyboard.press("q")
        if not self._smart:
            keyboard.press("m")
            self._smart = True
        held = ["Control", "Alt"] if negative else ["Control"]
        with self.page.expect_response(lambda r: "interactive-annotating" in r.url) as answer:
            for key in held:
                keyboard.down(key)
            self.page.mouse.click(left + x / 512 * width, top + y / 512 * height)
            for key in held:
                keyboard.up(key)
        assert answer.value.ok, answer.value.text()
        return dict(answer.value.json())

    def choose(self, value: str) -> None:
        """Tick a choice by its text."""
        box = self.page.locator(f".lsf-choice input[name='{value}']")
        box.check(force=True)
        assert box.is_checked()

    def submit(self) -> dict[str, Any]:
        """Submit, or update, and give the annotation that Label Studio stored."""
        with self.page.expect_response(_is_submission) as stored:
            self.page.keyboard.press("Control+Enter")
        answer = stored.value
        assert answer.ok, answer.text()
        return dict(answer.json())

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


def _is_submission(response: Response) -> bool:
    return (
        response.request.method in ("POST", "PATCH")
        and "/annotations" in response.url
        and "drafts" not in response.url
    )


@pytest.fixture(scope="session")
def chromium(leave_out: Callable[[str], NoReturn]) -> Iterator[Browser]:
    """The system's Chromium, the one named by REFSTAR_CHROMIUM, or Playwright's own."""
    program = os.environ.get("REFSTAR_CHROMIUM")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        program = program or shutil.which(name)
    with sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).is_file():
            leave_out("there is no Chromium (install it, or name it in REFSTAR_CHROMIUM)")
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture
def studio_at(chromium: Browser) -> Iterator[Callable[[str, Credentials], StudioPage]]:
    """Log in to the labelling pages of any server."""
    opened = []

    def log_in(url: str, credentials: Credentials) -> StudioPage:
        context = chromium.new_context(viewport={"width": 1600, "height": 900})
        opened.append(context)
        studio = StudioPage(context.new_page(), url)
        studio.login(credentials)
        return studio

    yield log_in
    for context in opened:
        context.close()


@pytest.fixture
def studio_page(
    chromium: Browser,
    label_studio_server: LabelStudioServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StudioPage]:
    """A labelling page whose user is logged in, 1600 x 900."""
    session = tmp_path_factory.getbasetemp() / "session.json"
    context = chromium.new_context(
        viewport={"width": 1600, "height": 900},
        storage_state=session if session.exists() else None,
    )
    studio = StudioPage(context.new_page(), label_studio_server.url)
    if not session.exists():
        studio.login(label_studio_server.credentials)
        context.storage_state(path=session)
    yield studio
    context.close()

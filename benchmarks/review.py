"""The review grid in a real Chromium, over a large store: how long a page and a key take.

    python benchmarks/review.py [--pairs 12000] [--pages 20] [--keys 100]

Starts `engine serve` on a store of its own, opens `/review` and decides by keyboard alone.

page, server: the cards of 24 pairs, and these with all of their pictures, never shown before.
page, browser: from the page-down key that turns a page to its last picture decoded and painted, at once
after the turn before, so that nothing of it was fetched ahead; and after a second, as people read.
key: the browser's own measure (Event Timing) from the key to the next painted frame, in steps of 8 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from large_store import fill_with_pictures
from load import Service

from dataset_engine.settings import Settings
from dataset_engine.store import Store

PAGE_GOAL_MS, KEY_GOAL_MS = 300.0, 50.0
SIZE = {"width": 1280, "height": 800}

# entries under 16 ms are not reported one by one; they are counted as 16
LISTEN = """() => {
  window.keys = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      if (entry.name === "keydown") window.keys.push(entry.duration);
  }).observe({ type: "event", durationThreshold: 16 });
}"""
# the cards' pictures are of another page, all there, and on the screen
TURN = """async () => {
  const shown = () => [...document.querySelectorAll("#cards img")].map((one) => one.src).join();
  const before = shown();
  const began = performance.now();
  document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: "PageDown", bubbles: true, cancelable: true }));
  while (shown() === before) await new Promise(requestAnimationFrame);
  await Promise.all([...document.querySelectorAll("#cards img")].map((one) => one.decode()));
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def server_times(url: str, pages: int) -> dict[str, list[float]]:
    """Milliseconds for the cards of a page, and for the cards with all their pictures."""
    times: dict[str, list[float]] = {"cards of a page": [], "page with its pictures, server": []}
    with httpx.Client(base_url=url, trust_env=False) as client:
        after = None
        for _ in range(pages):
            began = time.perf_counter()
            asked = {"order": "certain"} | ({"after": after} if after else {})
            page = client.get("/review/cards", params=asked).json()
            times["cards of a page"].append((time.perf_counter() - began) * 1e3)
            for card in page["cards"]:
                client.get(f"/pictures/{card['key']}/card/{card['mask']}.jpg").raise_for_status()
            times["page with its pictures, server"].append((time.perf_counter() - began) * 1e3)
            after = page["next"]
    return times


def begin(page: Page, url: str) -> None:
    """Open the grid and give a name."""
    page.goto(f"{url}/review")
    page.wait_for_selector("#ask-name[open]")
    page.keyboard.type("Bench")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sign-out")
    page.wait_for_selector(".card[aria-selected=true]")


def browser_times(page: Page, url: str, pages: int, keys: int) -> dict[str, list[float]]:
    """Milliseconds of turned pages and of keys, as the browser sees them."""
    begin(page, url)
    times: dict[str, list[float]] = {"page turned at once": [], "page turned after 1 s": []}
    for number in range(2 * pages):
        kind = "page turned after 1 s" if number % 2 else "page turned at once"
        if number % 2:
            page.wait_for_timeout(1000)
        times[kind].append(float(page.evaluate(TURN)))
    page.wait_for_timeout(1000)
    page.evaluate(LISTEN)
    began = time.monotonic()
    for number in range(keys):
        page.keyboard.press("axm"[number % 3] if number % 7 else "ArrowRight")
        page.wait_for_timeout(100)
    rate = keys / (time.monotonic() - began)
    page.wait_for_timeout(500)
    slow = [float(value) for value in page.evaluate("window.keys")]
    times["key to painted answer"] = [*slow, *[16.0] * max(0, keys - len(slow))]
    print(f"{keys} keys pressed at {rate * 3600:,.0f} an hour; {len(slow)} took 16 ms or more")
    expect(page.locator("#unsaved")).to_have_text("all saved", timeout=60_000)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12_000)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--keys", type=int, default=100)
    options = parser.parse_args()
    program = os.environ.get("REFSTAR_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with Store(Settings(home=home)) as store:
            fill_with_pictures(store, options.pairs)
        with Service(home) as service:
            url = f"http://127.0.0.1:{service.port}"
            times = server_times(url, options.pages)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=program, args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_context(viewport=SIZE).new_page()
                times |= browser_times(page, url, options.pages, options.keys)
                browser.close()
    print(
        f"{options.pairs:,} pairs, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    for name, values in times.items():
        print(
            f"  {name:31} {statistics.median(values):7.1f} ms in the median, "
            f"{float(np.quantile(values, 0.95)):7.1f} at 95 %"
        )
    result = {
        f"page of 24, fetched ahead, under {PAGE_GOAL_MS:.0f} ms": statistics.median(
            times["page turned after 1 s"]
        )
        < PAGE_GOAL_MS,
        f"key under {KEY_GOAL_MS:.0f} ms at 95 %": bool(
            np.quantile(times["key to painted answer"], 0.95) < KEY_GOAL_MS
        ),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

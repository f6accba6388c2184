"""How soon the explorer answers: from a click to the new prediction and to the new map, in a real JupyterLab.

    python tests/benchmarks/explorer.py

Needs Chromium. Times are taken in the browser, from the click to the change of what is shown.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS  # noqa: E402
from tests.browser.lab import Lab  # noqa: E402

NOTEBOOK = "enhancer_explorer.ipynb"
WATCH = """() => {
  window.times = {};
  const said = () => document.querySelector('.cdi-prediction')?.innerText;
  const canvas = document.querySelector('.cdi-map canvas');
  document.addEventListener('click', () => {
    const start = performance.now(), before = said();
    window.times = { waiting: true };
    let pale = false;
    const look = () => {
      const changed = said() && said() !== before;
      if (changed && window.times.prediction === undefined) window.times.prediction = performance.now() - start;
      pale = pale || canvas.style.opacity !== '1';
      if (pale && canvas.style.opacity === '1') window.times.map = performance.now() - start;
      else requestAnimationFrame(look);
    };
    look();
  }, true);
}"""


def main() -> None:
    """Print medians over ten substitutions, and the time that a redraw of 1,000 bases takes."""
    folder = Path(tempfile.mkdtemp()) / "notebooks"
    folder.mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder)
    lab = Lab(folder)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1500})
            lab.open(page, NOTEBOOK)
            lab.run_all(page)
            page.wait_for_selector(".cdi-exchange canvas")
            lab.ask(page, "1", "explorer.session.wait(60)")
            page.evaluate(WATCH)
            found = []
            for position in range(30, 150, 12):
                box = page.locator(".cdi-map canvas").bounding_box()
                unit = (box["width"] - 84) / 164
                for row in range(4):  # the first that is not the sequence's own base changes it
                    page.evaluate("() => { window.times = {}; }")
                    page.mouse.click(box["x"] + 62 + (position + 0.5) * unit, box["y"] + 6 + 18 * (row + 0.5))
                    page.wait_for_timeout(100)
                    if lab.ask(page, f"len(explorer.session.history) > {len(found) + 1}") == "True":
                        break
                page.wait_for_function("() => window.times.map !== undefined", timeout=60_000)
                found.append(page.evaluate("() => window.times"))
                lab.ask(page, "1", "explorer.session.wait(60)")
            for name in ("prediction", "map"):
                times = [one[name] for one in found]
                worst = max(times)
                print(f"click to {name}: median {statistics.median(times):.0f} ms, largest {worst:.0f} ms")
            lab.ask(page, "1", "explorer.session.replace_sequence('GATC' * 250); explorer.session.wait(120)")
            page.wait_for_timeout(500)
            for name in ("logo", "map", "exchange"):
                took = page.locator(f".cdi-{name}").get_attribute("data-milliseconds")
                print(f"redraw of 1,000 bp, {name}: {took} ms")
    finally:
        lab.stop()


if __name__ == "__main__":
    main()

"""Response time of the explorer in a real JupyterLab: from a click to the new prediction and to the new map.

    python tests/benchmarks/explorer.py

Needs Chromium. Times are measured in the browser, from the click to the change on screen.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS  # noqa: E402
from tests.browser.lab import explorer_page  # noqa: E402

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
    with explorer_page(1400, 1500, FLAGS) as (lab, page):
        page.evaluate(WATCH)
        result = []
        for position in range(30, 150, 12):
            box = page.locator(".cdi-map canvas").bounding_box()
            unit = (box["width"] - 84) / 164
            for row in range(4):  # the first that is not the sequence's own base changes it
                page.evaluate("() => { window.times = {}; }")
                page.mouse.click(box["x"] + 62 + (position + 0.5) * unit, box["y"] + 6 + 18 * (row + 0.5))
                page.wait_for_timeout(100)
                if lab.ask(page, f"len(explorer.session.history) > {len(result) + 1}") == "True":
                    break
            page.wait_for_function("() => window.times.map !== undefined", timeout=60_000)
            result.append(page.evaluate("() => window.times"))
            lab.ask(page, "1", "explorer.session.wait(60)")
        for name in ("prediction", "map"):
            times = [one[name] for one in result]
            worst = max(times)
            print(f"click to {name}: median {statistics.median(times):.0f} ms, largest {worst:.0f} ms")
        lab.ask(page, "1", "explorer.session.replace_sequence('GATC' * 250); explorer.session.wait(120)")
        page.wait_for_timeout(500)
        for name in ("logo", "map", "exchange"):
            took = page.locator(f".cdi-{name}").get_attribute("data-milliseconds")
            print(f"redraw of 1,000 bp, {name}: {took} ms")


if __name__ == "__main__":
    main()

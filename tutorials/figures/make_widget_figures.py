"""Take the pictures of the explorer that the README shows: python tutorials/figures/make_widget_figures.py

Needs Chromium and the extra `test`.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS
from tests.browser.lab import Lab

NOTEBOOK = "enhancer_explorer.ipynb"
EDIT = """
explorer.session.pin().apply((16, 17, 'G'))
explorer.session.wait(60)
explorer.session.select(40, 48)
"""


def main() -> None:
    """The explorer of the first example locus, after one edit: light, dark, and by strand with the heat map."""
    folder = Path(tempfile.mkdtemp()) / "notebooks"
    folder.mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder)
    lab = Lab(folder)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            page = browser.new_page(viewport={"width": 1500, "height": 1500})
            lab.open(page, NOTEBOOK)
            lab.run_all(page)
            page.wait_for_selector(".cdi-exchange canvas")
            page.evaluate("() => { window.jupyterapp.commands.execute('application:toggle-left-area'); }")
            lab.ask(page, "1", EDIT)
            page.locator(".cdi-logo").scroll_into_view_if_needed()
            for theme in ("Light", "Dark"):
                page.evaluate(
                    "(theme) => { window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }",
                    f"JupyterLab {theme}",
                )
                page.wait_for_timeout(1500)
                output = page.locator(".jp-OutputArea:has(.cdi) .jp-OutputArea-child").first
                output.screenshot(path=FOLDER / f"explorer_{theme.lower()}.png")
            lab.ask(page, "1", "explorer.session.set_method('integrated_gradients'); explorer.session.wait(120)")
            lab.ask(page, "1", "explorer.exchange.mode = 'map'")
            page.wait_for_timeout(1500)
            output.screenshot(path=FOLDER / "explorer_strands_dark.png")
    finally:
        lab.stop()


if __name__ == "__main__":
    main()

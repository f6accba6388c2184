"""Take the pictures of the explorer that the README shows: python tutorials/figures/make_widget_figures.py

Needs Chromium and the extra `test`.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS
from tests.browser.lab import explorer_page

EDIT = """
explorer.session.pin().apply((16, 17, 'G'))
explorer.session.wait(60)
explorer.session.select(40, 48)
"""


def main() -> None:
    """The explorer of the first example locus, after one edit: light, dark, and by strand with the heat map."""
    with explorer_page(1500, 1500, FLAGS) as (lab, page):
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


if __name__ == "__main__":
    main()

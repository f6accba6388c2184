"""The report, opened from disk in a real browser with the network cut off."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import crossdna_interpret as cdi
from crossdna_interpret.report import write_report

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def page() -> Iterator:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CROSSDNA_REQUIRE_BROWSER"):
            pytest.fail("CROSSDNA_REQUIRE_BROWSER is set and there is no Chromium")
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 900})
        finally:
            browser.close()


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_the_page_shows_its_pictures_and_asks_for_nothing(page, tmp_path: Path) -> None:
    locus = cdi.example()
    name = "<b>hostile</b><img src=x onerror=document.title='hacked'>"
    file, _ = write_report({locus.name: locus.sequence, name: "ACGTACGTTAATCC"}, tmp_path / "r.html")
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    page.wait_for_function("Array.from(document.images).every(i => i.complete)")
    assert [url for url in requests if not url.startswith(("file://", "data:"))] == []
    assert problems == []
    sizes = page.evaluate("Array.from(document.images).map(i => [i.naturalWidth, i.clientWidth])")
    assert len(sizes) == 4
    assert all(natural > 300 and shown > 300 for natural, shown in sizes)
    assert page.title() == "CrossDNA report"
    assert page.locator("h2").nth(1).inner_text() == name
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out
    shown = float(page.locator(".score").first.inner_text())
    assert shown == pytest.approx(float(cdi.predict(locus.sequence)[0, 0]), abs=5.1e-4)
    page.locator("summary").first.click()
    assert page.locator(".sequence").first.inner_text() == locus.sequence

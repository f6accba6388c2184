"""A real Chromium, with every request and every error of its pages on record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crossdna_interpret.widgets.view import View

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Record:
    """What a page asked for, and what went wrong on it."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def outside(self, *allowed: str) -> list[str]:
        """Requests that left the machine, and were not for one of the allowed beginnings."""
        return [url for url in self.requests if not url.startswith(("file://", "data:", "blob:", *allowed))]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CROSSDNA_REQUIRE_BROWSER"):
            pytest.fail("CROSSDNA_REQUIRE_BROWSER is set and there is no Chromium")
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


@pytest.fixture
def make_page(browser: Any) -> Iterator[Callable[..., tuple[Any, Record]]]:
    """New pages of a given size, each with its record."""
    pages = []

    def make(width: int = 1280, height: int = 900, **options: Any) -> tuple[Any, Record]:
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        record = Record()
        page.on("request", lambda request: record.requests.append(request.url))
        page.on("pageerror", lambda error: record.problems.append(str(error)))
        page.on("console", lambda message: record.problems.append(message.text) if message.type == "error" else None)
        return page, record

    yield make
    for page in pages:
        page.close()


@pytest.fixture
def show(make_page: Callable, tmp_path: Path) -> Callable[..., Any]:
    """Opens a view's page from disk, and lets it ask for edits as in a notebook; what it sends is in `window.sent`."""
    records = []

    def opened(view: View, **options: Any) -> Any:
        page, record = make_page(**options)
        records.append(record)
        view.to_html(tmp_path / "view.html")
        page.goto((tmp_path / "view.html").as_uri())
        page.wait_for_function("() => document.querySelector('.cdi')?.dataset.drawn")
        page.evaluate(
            """() => {
              window.sent = [];
              for (const model of document.getElementById('views').models) {
                model.put('editable', true);
                model.send = (message) => window.sent.push(message);
              }
            }"""
        )
        return page

    yield opened
    for record in records:
        assert record.outside() == []
        assert record.problems == []

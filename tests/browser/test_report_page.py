"""The report, opened from disk in a real browser with the network cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import crossdna_interpret as cdi
from crossdna_interpret.report import write_report

pytestmark = pytest.mark.browser


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_the_page_shows_its_pictures_and_asks_for_nothing(make_page: Callable, tmp_path: Path) -> None:
    locus = cdi.example()
    name = "<b>hostile</b><img src=x onerror=document.title='hacked'>"
    file, _ = write_report({locus.name: locus.sequence, name: "ACGTACGTTAATCC"}, tmp_path / "r.html")
    page, record = make_page()
    page.goto(file.as_uri())
    page.wait_for_function("Array.from(document.images).every(i => i.complete)")
    assert record.outside() == []
    assert record.problems == []
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

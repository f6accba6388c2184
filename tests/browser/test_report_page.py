"""The report, opened from disk in a real browser with the network cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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
    page.wait_for_function("() => document.querySelectorAll('.cdi[data-drawn]').length === 6")
    box = page.locator(".cdi-map canvas").first.bounding_box()
    unit = (box["width"] - 84) / len(locus.sequence)
    base = next(row for row in range(4) if "ACGT"[row] != locus.sequence[40])
    page.mouse.move(box["x"] + 62 + 40.5 * unit, box["y"] + 6 + 18 * (base + 0.5))
    change = f"{locus.sequence[40]}40{'ACGT'[base]}: "
    page.wait_for_function(
        "(text) => document.querySelector('.cdi-map .cdi-readout').innerText.startsWith(text)", arg=change
    )
    assert record.outside() == []
    assert record.problems == []
    assert page.title() == "Sequence report"
    assert page.locator("h2").nth(1).inner_text() == name
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out
    shown = float(page.locator(".score").first.inner_text())
    assert shown == pytest.approx(float(cdi.predict(locus.sequence)[0, 0]), abs=5.1e-4)
    page.locator("summary").first.click()
    assert page.locator(".sequence").first.inner_text() == locus.sequence


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_without_scripts_it_shows_pictures(make_page: Callable, tmp_path: Path) -> None:
    file, _ = write_report({"one": cdi.example().sequence}, tmp_path / "r.html")
    page, _ = make_page(java_script_enabled=False)
    page.goto(file.as_uri())
    boxes = [image.bounding_box() for image in page.locator("img").all()]
    assert len(boxes) == 2
    assert all(box["width"] > 300 and box["height"] > 80 for box in boxes)


UNDER_HEADINGS = """() => Array.from(document.querySelectorAll('h3')).map((heading) => {
  let node = heading.nextElementSibling;
  const found = [];
  for (; node && node.tagName !== 'H3'; node = node.nextElementSibling) found.push(node);
  const shown = (thing) => thing.getBoundingClientRect().height > 40;
  return [heading.textContent, found.some((each) => [each, ...each.querySelectorAll('img, table, svg, canvas')]
    .some((thing) => ['IMG', 'TABLE', 'svg', 'CANVAS'].includes(thing.tagName) && shown(thing)))];
})"""


class Ordinary(nn.Module):
    """Counts A and C; knows nothing of strands."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].mean(2) * torch.tensor([3.0, 1.0])


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("kind", ["crossdna", "ordinary"])
def test_no_heading_stands_without_its_picture(scripts: bool, kind: str, make_page: Callable, tmp_path: Path) -> None:
    model = None if kind == "crossdna" else cdi.wrap(Ordinary(), targets=["liver", "n" * 200])
    sequences = {"one": cdi.example().sequence, "n" * 3000: "ACGTACGTTAATCC"}
    file, _ = write_report(sequences, tmp_path / "r.html", model, target=0)
    page, record = make_page()
    if scripts:
        page.goto(file.as_uri())
        page.wait_for_function("() => document.querySelectorAll('.cdi[data-drawn]').length >= 4")
    else:  # a browser without scripts cannot be asked, so that what it would draw is put in the place of the scripts
        text = file.read_text(encoding="utf-8").partition("<script")[0]
        file.write_text(text.replace("<noscript>", "").replace("</noscript>", ""), encoding="utf-8")
        page.goto(file.as_uri())
    headings = page.evaluate(UNDER_HEADINGS)
    assert len(headings) == 4
    assert [name for name, pictured in headings if not pictured] == []
    assert page.locator(".live").first.is_visible() == scripts
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert record.problems == []

"""Typed bases replace the base under the pointer, and the base menu belongs to its base."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crossdna_interpret.widgets.logo_view import LogoView
from tests.browser.views import SEQUENCE, mutagenesis, pixel, put, readout

pytestmark = pytest.mark.browser


def test_typing_follows_the_pointer_and_gives_the_focus_back(show: Callable) -> None:
    page = show(LogoView(mutagenesis()))
    page.evaluate(
        """() => {
          const field = document.createElement('input');
          document.body.prepend(field);
          field.focus();
        }"""
    )
    x, y = pixel(page, 3, "svg")
    page.mouse.move(x - 1, y + 59)
    page.mouse.move(x, y + 60)
    page.keyboard.press("g")
    assert page.evaluate("window.sent") == [{"type": "edit", "start": 3, "end": 4, "string": "G"}]
    page.keyboard.press("x")  # no base: neither an edit nor a command to the notebook
    assert readout(page) == "x is no base: type A, C, G, T or N"
    page.evaluate("() => { for (const m of document.getElementById('views').models) m.put('stale', true); }")
    page.wait_for_timeout(200)  # drawn anew, as after the edit before, which may come later than the key
    assert readout(page) == "x is no base: type A, C, G, T or N"
    assert page.evaluate("window.sent.length") == 1
    page.mouse.move(x, y + 600)
    page.keyboard.type("acgt")
    assert page.locator("input").first.input_value() == "acgt"
    assert page.evaluate("window.sent.length") == 1
    page.get_by_role("button", name="show all").click()  # which has the focus then
    page.mouse.move(x, y + 60)
    page.keyboard.press("t")
    assert page.evaluate("window.sent.length") == 2
    page.mouse.down()
    page.mouse.up()  # a click lets the focus stay
    page.mouse.move(x, y + 600)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    assert page.evaluate("window.sent.length") == 3
    assert page.locator("input").first.input_value() == "acgt"


def test_a_page_that_cannot_be_edited_leaves_the_focus_alone(show: Callable) -> None:
    page = show(LogoView(mutagenesis()))
    page.evaluate("() => { for (const m of document.getElementById('views').models) m.put('editable', false); }")
    before = page.evaluate("() => document.activeElement.tagName")
    page.mouse.move(*np.add(pixel(page, 3, "svg"), (-1, 59)))
    page.mouse.move(*np.add(pixel(page, 3, "svg"), (0, 60)))
    assert page.evaluate("() => document.activeElement.tagName") == before


@pytest.mark.parametrize("event", ["edit by key", "click elsewhere", "focus elsewhere", "another sequence", "zoom"])
def test_the_chooser_of_a_base_does_not_stay(event: str, show: Callable) -> None:
    page = show(LogoView(mutagenesis()))
    page.evaluate("() => document.body.append(document.createElement('input'), document.createElement('p'))")
    page.mouse.click(*np.add(pixel(page, 3, "svg"), (0, 60)))
    assert page.locator(".cdi-chooser").is_visible()
    if event == "edit by key":
        page.keyboard.press("g")
    elif event == "click elsewhere":
        page.mouse.click(5, 5)
    elif event == "focus elsewhere":
        page.locator("input").last.focus()
    elif event == "another sequence":
        put(page, "sequence", SEQUENCE[:-1] + "T")
    else:
        page.keyboard.press("+")
    assert not page.locator(".cdi-chooser").is_visible()

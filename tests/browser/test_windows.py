"""The part of a sequence that a view shows after a change of sequence, and the marking of outdated numbers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap
from tests.browser.views import (
    LENGTH,
    SEQUENCE,
    VIEWS,
    attribution,
    drawn,
    exchange,
    mutagenesis,
    pixel,
    put,
    readout,
    words,
)

pytestmark = pytest.mark.browser

PLACES = """([drawing, width]) => {
  const box = document.querySelector(drawing).getBoundingClientRect();
  return [box.left + 62 + 1, box.left + width - 22 - 1, box.top + 40];
}"""


def ends(page: Any) -> list[int]:
    """Positions at the left and the right end of a drawing, as they are read out there."""
    drawing = ".cdi-canvas"
    left, right, y = page.evaluate(PLACES, [drawing, page.locator(".cdi").first.evaluate("(n) => n.clientWidth")])
    result = []
    for x in (left, right):
        page.mouse.move(x, y)
        drawn(page)
        result.append(int(re.search(r"(?<= at )\d+|(?<=^[ACGTN])\d+", readout(page))[0]))  # type: ignore[index]
    return result


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ([0, 0], [0, LENGTH - 1]),
        ([], [0, LENGTH - 1]),
        ([5, 12], [5, 11]),
        ([5, 900], [5, LENGTH - 1]),  # reaches further than the sequence: the part that there is
        ([-3, 7], [0, 6]),
        ([0, 900], [0, LENGTH - 1]),
        ([40, 60], [0, LENGTH - 1]),  # all of it lies beyond the sequence
    ],
)
@pytest.mark.parametrize("kind", VIEWS)
def test_a_window_of_another_sequence_neither_cuts_nor_squashes(
    kind: str, window: list[float], expected: list[int], flipped: bool, show: Callable
) -> None:
    page = show(VIEWS[kind](view=window, flipped=flipped))
    assert ends(page) == (expected[::-1] if flipped else expected)


@pytest.mark.parametrize("kind", VIEWS)
def test_reading_the_other_strand_keeps_the_bases_on_screen(kind: str, show: Callable) -> None:
    page = show(VIEWS[kind](view=[3, 9]))
    put(page, "flipped", True)
    assert ends(page) == [8, 3]
    put(page, "flipped", False)
    assert ends(page) == [3, 8]


@pytest.mark.parametrize("flipped", [False, True])
def test_zooming_and_panning_is_told_in_positions(flipped: bool, show: Callable) -> None:
    page = show(LogoView(attribution(), view=[4, 16], flipped=flipped))
    box = page.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 25, box["y"] + 50)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 4000)  # to the right end of the screen
    page.keyboard.up("Shift")
    drawn(page)
    view = "() => document.getElementById('views').models[0].get('view')"
    assert page.evaluate(view) == ([0, 12] if flipped else [8, 20])
    assert page.locator(".cdi-note").last.text_content() is not None
    assert f"{0 if flipped else 8} to {11 if flipped else 19} of 20 positions" in page.locator("svg").inner_html()
    page.get_by_role("button", name="show all").click()
    drawn(page)
    assert page.evaluate(view) == [0, 0]  # all of it, whatever the length
    assert "positions" not in page.locator("svg").inner_html()


@pytest.mark.parametrize("kind", VIEWS)
def test_what_lies_beyond_the_end_is_not_drawn(kind: str, show: Callable) -> None:
    """A cursor and a selection of a longer sequence, and ones outside the window."""
    outside = """() => {
      const drawing = document.querySelector('.cdi-canvas');
      const right = drawing.getBoundingClientRect().right - 22, left = drawing.getBoundingClientRect().left + 62;
      if (drawing.tagName !== 'CANVAS') {
        const marks = document.querySelectorAll('.cdi-selection, .cdi-cursor');
        const boxes = Array.from(marks).map((mark) => mark.getBoundingClientRect());
        return [marks.length, boxes.filter((box) => box.right > right + 1 || box.left < left - 1).length];
      }
      const pen = drawing.getContext('2d');
      const dark = (x, width) => {
        const data = pen.getImageData(x, 30, width, 12).data;
        let count = 0;
        for (let i = 3; i < data.length; i += 4) if (data[i] > 20) count++;
        return count;
      };
      return [null, dark(drawing.width - 6, 6) + dark(28, 6)];
    }"""
    page = show(VIEWS[kind](cursor=400, selection=[15, 800], view=[2, 18]))
    page.evaluate("() => { for (const name of ['cursor']) "
                  "document.getElementById('views').models[0].set(name, 400); }")  # fmt: skip
    drawn(page)
    assert page.evaluate(outside) in ([1, 0], [None, 0])
    put(page, "cursor", 19)  # there is such a base, but it is not on screen
    assert page.evaluate(outside) in ([1, 0], [None, 0])
    put(page, "selection", [30, 40])
    assert page.evaluate(outside) in ([0, 0], [None, 0])


def test_arcs_end_at_the_edge_of_the_window(show: Callable) -> None:
    by_source = np.zeros((2, 2, LENGTH, LENGTH))
    by_source[:, 0, 10, 0] = by_source[:, 0, 10, LENGTH - 1] = 0.5  # from far left and far right into the middle
    page = show(StrandExchangeMap(dataclasses.replace(exchange(), by_source=by_source), threshold=0.0, view=[8, 12]))
    colored = """([from, to]) => {
      const canvas = document.querySelector('canvas'), pen = canvas.getContext('2d');
      const data = pen.getImageData(from < 0 ? canvas.width + from : from, 0, to, 110).data;
      let count = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i] > data[i + 2] + 60 && data[i + 3] > 40) count++;
      return count;
    }"""
    assert page.evaluate(colored, [70, 300]) > 50  # they are on screen
    assert page.evaluate(colored, [0, 60]) == 0
    assert page.evaluate(colored, [-20, 20]) == 0


@pytest.mark.parametrize("kind", VIEWS)
def test_positions_are_said_to_be_0_based(kind: str, show: Callable) -> None:
    page = show(VIEWS[kind]())
    assert words(page).count("0-based") == 1
    if kind == "exchange":
        put(page, "mode", "map")
        assert "sent by the reverse strand at (0-based)" in words(page)


def test_numbers_of_the_sequence_before_are_not_passed_off_as_this_ones(show: Callable) -> None:
    page = show(LogoView(mutagenesis(), stale=True))
    page.mouse.move(*np.add(pixel(page, 4, "svg"), (0, 60)))
    drawn(page)
    assert readout(page) == "A at 4: not computed yet"
    assert "mutagenesis, activity (out of date)" in page.locator("svg").inner_html()
    page = show(MutagenesisMap(mutagenesis(), stale=True))
    assert readout(page).startswith("change in activity (out of date)")
    page.mouse.move(*np.add(pixel(page, 4, "canvas"), (0, 6 + 18 * 2.5)))
    drawn(page)
    assert readout(page) == "A4G: not computed yet"
    page = show(StrandExchangeMap(exchange(), stale=True))
    assert readout(page).endswith("(out of date)")
    page.mouse.move(*np.add(pixel(page, 9, "canvas"), (0, 70)))
    drawn(page)
    assert readout(page) == f"{SEQUENCE[9]} at 9: not computed yet"
    put(page, "stale", False)  # the pointer rests: its words are of the new numbers
    assert "sent by reverse +0.500" in readout(page)


@pytest.mark.parametrize("kind", VIEWS)
def test_of_a_sequence_without_numbers_it_says_so(kind: str, show: Callable) -> None:
    page = show({"map": MutagenesisMap, "exchange": StrandExchangeMap}.get(kind, LogoView)(sequence=SEQUENCE))
    assert readout(page) == ""
    assert "not computed yet" in words(page)

"""Each view on its own page in a real browser: drawn from known numbers, operated by mouse and keyboard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from crossdna_interpret.results import Mutagenesis
from crossdna_interpret.widgets.drawn import wild_letters
from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap
from tests.browser.views import (
    CERTIFICATE,
    COMPLEMENT,
    LENGTH,
    SEQUENCE,
    attribution,
    drawn,
    exchange,
    mutagenesis,
    pixel,
    put,
    readout,
)

pytestmark = pytest.mark.browser


def test_letters_stand_where_and_as_high_as_they_should(show: Callable) -> None:
    result = attribution()
    page = show(LogoView(result))
    boxes = page.evaluate(
        """() => Array.from(document.querySelectorAll('.cdi-logo path[data-at]')).map((path) => {
          const box = path.getBoundingClientRect();
          const { track, at, base } = path.dataset;
          return [Number(track), Number(at), base, box.height, box.top, box.bottom];
        })"""
    )
    by_place = {(track, at): (base, height, top, bottom) for track, at, base, height, top, bottom in boxes}
    assert len(by_place) == 2 * LENGTH
    assert "".join(by_place[0, at][0] for at in range(LENGTH)) == SEQUENCE
    assert "".join(by_place[1, at][0] for at in range(LENGTH)) == SEQUENCE.translate(COMPLEMENT)
    heights = np.concatenate([result.forward.sum(1), result.reverse.sum(1)])
    pixels = np.array([by_place[track, at][1] for track in (0, 1) for at in range(LENGTH)])
    tall = np.abs(heights) > 0.1
    np.testing.assert_allclose(
        pixels[tall] / np.abs(heights)[tall], pixels[LENGTH - 1] / heights[LENGTH - 1], rtol=0.02
    )
    zero = by_place[0, LENGTH - 1][3]  # the highest stands on the line
    assert by_place[0, 0][2] == pytest.approx(zero, abs=1)  # a negative one hangs from it
    names = page.locator(".cdi-note").all_text_contents()
    assert names[:2] == ["forward strand", "reverse strand"]


def test_hovering_reads_out_a_position(show: Callable) -> None:
    page = show(LogoView(attribution()))
    page.mouse.move(*np.add(pixel(page, 19, "svg"), (0, 60)))
    drawn(page)
    assert readout(page) == "N at 19: forward +1.500, reverse \u22120.200"
    page.mouse.move(5, 5)
    drawn(page)
    assert "N at 19" not in readout(page)


def test_the_other_strand_is_read_from_its_own_start(show: Callable) -> None:
    page = show(LogoView(attribution()))
    put(page, "flipped", True)
    first = page.evaluate(
        """() => Array.from(document.querySelectorAll('.cdi-logo path[data-track="0"]'))
          .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
          .map((path) => path.dataset.base).join('')"""
    )
    assert first == SEQUENCE.translate(COMPLEMENT)[::-1]
    page.mouse.move(*np.add(pixel(page, 0, "svg"), (0, 60)))
    drawn(page)
    assert readout(page).startswith("N at 19:")
    assert page.locator(".cdi-note").all_text_contents()[:2] == ["reverse strand", "forward strand"]


def test_edits_are_asked_for_by_mouse_and_key(show: Callable) -> None:
    page = show(LogoView(mutagenesis()))
    x, y = pixel(page, 3, "svg")
    page.mouse.click(x, y + 60)
    assert page.locator(".cdi-choice:disabled").get_attribute("data-to") == SEQUENCE[3]
    page.locator(".cdi-choice[data-to=G]").click()
    for key in ("c", "ArrowRight", "Delete", "Insert", "A", "Insert", "Control+z", "Control+Shift+Z"):
        page.keyboard.press(key)
    assert page.evaluate("window.sent") == [
        {"type": "edit", "start": 3, "end": 4, "string": "G"},
        {"type": "edit", "start": 3, "end": 4, "string": "C"},  # after which the cursor goes on
        {"type": "edit", "start": 5, "end": 6, "string": ""},
        {"type": "edit", "start": 5, "end": 5, "string": "A"},
        {"type": "undo"},
        {"type": "redo"},
    ]


def test_on_the_other_strand_edits_are_of_its_letters(show: Callable) -> None:
    page = show(LogoView(mutagenesis(), flipped=True))
    page.mouse.move(*np.add(pixel(page, 0, "svg"), (0, 60)))
    page.locator(".cdi-logo").focus()
    page.keyboard.press("g")
    page.keyboard.press("Insert")
    page.keyboard.press("a")
    sent = page.evaluate("window.sent")
    assert sent[0] == {"type": "edit", "start": 19, "end": 20, "string": "C"}
    assert sent[1] == {"type": "edit", "start": 19, "end": 19, "string": "T"}  # before what is second on screen


def test_dragging_selects_and_delete_takes_out_the_selection(show: Callable) -> None:
    page = show(LogoView(mutagenesis()))
    (x0, y), (x1, _) = pixel(page, 12, "svg"), pixel(page, 8, "svg")
    page.mouse.move(x0, y + 60)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, y + 60)
    page.mouse.move(x1, y + 60)
    page.mouse.up()
    page.keyboard.press("Delete")
    assert page.evaluate("window.sent") == [{"type": "edit", "start": 8, "end": 13, "string": ""}]
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Backspace")
    assert page.evaluate("window.sent[1]") == {"type": "edit", "start": 0, "end": 3, "string": ""}


def test_the_wild_type_is_shown_where_it_was_edited(show: Callable) -> None:
    wild = wild_letters("GACTAAGCCATTGACCGTN", [0, 1, 2, 3, 4, -1, *range(5, 19)])
    page = show(LogoView(mutagenesis(), wild=wild))
    shown = page.evaluate(
        "() => Array.from(document.querySelectorAll('[data-wild]')).map((t) => [t.dataset.wild, t.textContent])"
    )
    assert shown == [["2", "C"], ["5", "ins"]]
    page.mouse.move(*np.add(pixel(page, 2, "svg"), (0, 60)))
    drawn(page)
    assert readout(page).startswith("T at 2, wild type C:")


@pytest.mark.parametrize("window", [[0, 0], [3, 12]])
@pytest.mark.parametrize(
    "name", ["CHIP:HNF4A:" + "liver_tissue_male_adult_" * 20, "<b>A & B</b><script>alert(1)</script>"]
)
def test_names_of_targets_have_room_and_are_text(name: str, window: list[float], show: Callable) -> None:
    page = show(LogoView(dataclasses.replace(attribution(), target=name), view=window))
    note = page.locator("svg > g > text.cdi-note").last
    right = page.evaluate("(node) => node.getBoundingClientRect().right", note.element_handle())
    strands = [
        box for box in page.locator(".cdi-note:has-text('forward strand')").all() if "strand" in box.inner_html()
    ]
    assert right < strands[0].bounding_box()["x"]
    whole = note.locator("title") if len(name) > 100 else note
    assert whole.text_content().startswith(f"attribution, {name}")
    if window[1]:
        assert "3 to 11 of 20 positions" in note.text_content()
    assert page.locator("b, svg script").count() == 0
    page = show(MutagenesisMap(dataclasses.replace(mutagenesis(), targets=(name,), target=name)))
    assert name in readout(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_motifs_are_named_above(show: Callable) -> None:
    brackets = [
        {"start": 2, "end": 7, "name": "CRX", "strand": "+"},
        {"start": 10, "end": 14, "name": "NRL", "strand": "-"},
    ]
    page = show(LogoView(mutagenesis(), brackets=brackets))
    assert page.locator(".cdi-bracket").count() == 2
    texts = page.locator(".cdi-note").all_text_contents()
    assert "CRX \u203a" in texts
    assert "\u2039 NRL" in texts


def test_zoom_and_pan_keep_whole_letters(show: Callable) -> None:
    page = show(LogoView(attribution()))
    page.get_by_role("button", name="zoom in").click()
    drawn(page)
    ats = sorted(
        {
            int(at)
            for at in page.evaluate(
                "() => Array.from(document.querySelectorAll('path[data-at]')).map((p) => p.dataset.at)"
            )
        }
    )
    assert len(ats) == 10
    box = page.locator("svg").bounding_box()
    edges = page.evaluate(
        """() => Array.from(document.querySelectorAll('path[data-at]'))
          .map((path) => path.getBoundingClientRect()).map((box) => [box.left, box.right])"""
    )
    assert min(left for left, _ in edges) >= box["x"] + 61
    assert max(right for _, right in edges) <= box["x"] + box["width"] - 21
    page.mouse.move(box["x"] + 300, box["y"] + 50)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -4000)
    page.keyboard.up("Shift")
    page.locator(".cdi-logo").focus()
    page.keyboard.press("0")
    drawn(page)
    assert page.locator("path[data-track='0']").count() == LENGTH


def test_the_heat_map_reads_out_and_applies(show: Callable) -> None:
    result = mutagenesis()
    page = show(MutagenesisMap(result))
    x, y = pixel(page, 4, "canvas")
    page.mouse.move(x, y + 6 + 18 * 2.5)
    drawn(page)
    assert readout(page) == f"A4G: +{result.delta[4, 2]:.3f}"
    page.mouse.click(x, y + 6 + 18 * 2.5)
    page.mouse.click(x, y + 6 + 18 * 0.5)  # its own base: nothing to apply
    assert page.evaluate("window.sent") == [{"type": "edit", "start": 4, "end": 5, "string": "G"}]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("window.sent[1]") == {"type": "edit", "start": 5, "end": 6, "string": "G"}
    put(page, "flipped", True)
    page.mouse.click(*np.add(pixel(page, 1, "canvas"), (0, 6 + 18 * 0.5)))  # second on screen is 18; A there is T here
    assert page.evaluate("window.sent[2]") is None  # T at 18 is its own base
    page.mouse.click(*np.add(pixel(page, 1, "canvas"), (0, 6 + 18 * 1.5)))
    assert page.evaluate("window.sent[2]") == {"type": "edit", "start": 18, "end": 19, "string": "G"}


def test_colours_say_which_way_and_how_much(show: Callable) -> None:
    sequence = "AAAA"
    predictions = np.zeros((4, 4, 1))
    predictions[0, 1, 0], predictions[1, 1, 0], predictions[2, 1, 0] = 1.0, -1.0, 0.5
    result = Mutagenesis(sequence, 0, ("y",), "y", np.zeros(1), predictions, CERTIFICATE)
    page = show(MutagenesisMap(result))
    colors = page.evaluate(
        """() => {
          const canvas = document.querySelector('canvas'), pen = canvas.getContext('2d');
          const unit = (canvas.width - 62 - 22) / 4;
          const at = (i) => pen.getImageData(62 + (i + 0.25) * unit, 6 + 18 * 1.5, 1, 1).data.slice(0, 3);
          return [0, 1, 2, 3].map((i) => Array.from(at(i)));
        }"""
    )
    assert colors[0] == [178, 24, 43]
    assert colors[1] == [33, 102, 172]
    assert colors[3] == [247, 247, 247]
    assert all(low < value < high for low, value, high in zip(colors[0], colors[2], colors[3], strict=True))


def test_arcs_and_map_of_exchange(show: Callable) -> None:
    page = show(StrandExchangeMap(exchange(), threshold=0.0))
    assert readout(page) == "exchange adds +0.250 to activity (interaction of directions +0.000)"
    orange = """() => {
      const canvas = document.querySelector('canvas');
      const data = canvas.getContext('2d').getImageData(0, 40, canvas.width, 60).data;
      let count = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i] > 180 && data[i + 2] < 120 && data[i + 3] > 100) count++;
      return count;
    }"""
    assert page.evaluate(orange) > 50
    put(page, "direction", "forward_to_reverse")
    assert page.evaluate(orange) == 0
    put(page, "direction", "both")
    page.mouse.move(*np.add(pixel(page, 9, "canvas"), (0, 70)))
    drawn(page)
    assert "A at 9" in readout(page) or "C at 9" in readout(page)
    assert "sent by reverse +0.500" in readout(page)
    page.locator("select").first.select_option("map")
    drawn(page)
    box = page.locator("canvas").bounding_box()
    side = box["height"] - 44
    page.mouse.move(box["x"] + 62 + side * 9.5 / LENGTH, box["y"] + 8 + side * 4.5 / LENGTH)
    drawn(page)
    assert readout(page) == "reverse → forward: sent at 9, received at 4: +0.5000"


def test_cells_of_a_long_map_are_read_out_as_they_were_summed(show: Callable) -> None:
    sequence = "GATC" * 175
    page = show(StrandExchangeMap(exchange(sequence), mode="map"))
    box = page.locator("canvas").bounding_box()
    side, edges = box["height"] - 44, np.arange(329) * 700 // 328
    column = 5  # positions 10 to 11; rounded to the nearest it would be 11 to 12
    page.mouse.move(box["x"] + 62 + side * (column + 0.5) / 328, box["y"] + 8 + side * 0.5 / 328)
    drawn(page)
    expected = f"sent at {edges[column]} to {edges[column + 1] - 1}, received at {edges[0]} to {edges[1] - 1}"
    assert expected in readout(page)


def test_a_brushed_region_asks_to_be_silenced(show: Callable) -> None:
    page = show(StrandExchangeMap(exchange()))
    (x0, y), (x1, _) = pixel(page, 5, "canvas"), pixel(page, 11, "canvas")
    page.mouse.move(x0, y + 60)
    page.mouse.down()
    page.mouse.move(x1, y + 60)
    page.mouse.up()
    page.keyboard.press("Escape")
    assert page.evaluate("window.sent") == [{"type": "silence", "start": 5, "end": 12}, {"type": "silence"}]


def test_a_thousand_bases_are_drawn_in_time_for_the_eye(show: Callable) -> None:
    """No timing is asserted here; that all of them are drawn, and how, is. The benchmark says how long it takes."""
    sequence = "GATC" * 250
    page = show(LogoView(attribution(sequence)))
    assert page.locator("path[data-at]").count() == 0
    assert page.locator(".cdi-logo svg path").count() == 2 * 4  # bars, one path for each base and track
    for _ in range(3):
        page.get_by_role("button", name="zoom in").click()
    drawn(page)
    assert page.locator("path[data-track='0']").count() == 125
    page = show(StrandExchangeMap(exchange(sequence)))
    assert page.evaluate("() => document.getElementById('views').models[0].get('cells')") == 328


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_can_be_told_from_paper(scheme: str, show: Callable) -> None:
    page = show(LogoView(attribution()))
    page.evaluate(
        """(dark) => {
          document.body.dataset.jpThemeLight = String(!dark);
          document.body.style.setProperty('--jp-layout-color0', dark ? '#111' : '#fff');
          document.body.style.setProperty('--jp-ui-font-color1', dark ? '#ddd' : '#222');
        }""",
        scheme == "dark",
    )
    drawn(page)
    ink = page.locator(".cdi-tick").first.evaluate("(node) => getComputedStyle(node).fill")
    assert ink == ("rgb(221, 221, 221)" if scheme == "dark" else "rgb(34, 34, 34)")

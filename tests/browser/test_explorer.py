"""The explorer in a real JupyterLab, in a real browser, on the bundled model."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crossdna_interpret as cdi
from tests.browser.lab import Lab

pytestmark = pytest.mark.browser

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "enhancer_explorer.ipynb"
SEQUENCE = cdi.example().sequence
SAVE = """() => {
  window.saved = null;
  window.jupyterapp.commands.execute('docmanager:save').then(() => { window.saved = 1; });
}"""


both_kinds_of_kernel = pytest.mark.parametrize("lab", [True, False], ids=["subshells", "no subshells"], indirect=True)


@pytest.fixture(scope="module", params=[True], ids=["subshells"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder / NOTEBOOK.name)
    started = Lab(folder, subshells=request.param)
    yield started
    started.stop()


@pytest.fixture
def explorer(lab: Lab, make_page: Callable) -> Iterator[Any]:
    """The notebook, run, with its explorer on screen and at rest."""
    page, record = make_page(1400, 1500)
    lab.open(page, NOTEBOOK.name)
    lab.run_all(page)
    page.wait_for_selector(".cdi-exchange canvas")
    settled(lab, page)
    page.locator(".cdi-logo").scroll_into_view_if_needed()
    yield page
    lab.ask(page, "1", "explorer.close()")
    assert record.outside(lab.base, lab.base.replace("http", "ws")) == []
    assert [problem for problem in record.problems if "cdi" in problem or "Error" in problem] == []


def settled(lab: Lab, page: Any) -> None:
    lab.ask(page, "1", "explorer.session.wait(60)")


def shown(page: Any) -> str:
    text: str = page.locator(".cdi-prediction").inner_text()
    return text


def wait_for_prediction(page: Any, sequence: str) -> None:
    expected = f"{cdi.predict(sequence)[0, 0]:.3f}"
    page.wait_for_function(
        "(text) => document.querySelector('.cdi-prediction')?.innerText === text", arg=expected, timeout=20_000
    )


def at(page: Any, position: int, inside: str = ".cdi-logo svg") -> tuple[float, float]:
    """Where a position lies on screen, in a view of all of them."""
    box = page.locator(inside).bounding_box()
    unit = (box["width"] - 62 - 22) / len(SEQUENCE)
    return box["x"] + 62 + (position + 0.5) * unit, box["y"]


def choose(page: Any, position: int, base: str) -> None:
    x, y = at(page, position)
    page.mouse.move(x, y + 60)
    page.mouse.click(x, y + 60)
    page.locator(f".cdi-choice[data-to={base}]").click()


def press(page: Any, text: str) -> None:
    page.locator(f".jupyter-button:has-text('{text}')").first.click()


def mutated(sequence: str, *changes: tuple[int, str]) -> str:
    letters = list(sequence)
    for position, base in changes:
        letters[position] = base
    return "".join(letters)


@both_kinds_of_kernel
def test_a_click_on_a_base_changes_everything(lab: Lab, explorer: Any) -> None:
    assert shown(explorer) == f"{cdi.predict(SEQUENCE)[0, 0]:.3f}"
    base = "T" if SEQUENCE[40] != "T" else "A"
    choose(explorer, 40, base)
    changed = mutated(SEQUENCE, (40, base))
    wait_for_prediction(explorer, changed)
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == changed
    explorer.wait_for_selector(f".cdi-logo [data-at='40'][data-base={base}]", state="attached")
    assert explorer.locator(".cdi-logo [data-wild='40']").inner_html() == SEQUENCE[40]
    press(explorer, "Undo")
    wait_for_prediction(explorer, SEQUENCE)
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == SEQUENCE
    explorer.wait_for_selector(".cdi-logo [data-wild]", state="detached")


def test_keys_edit_too(lab: Lab, explorer: Any) -> None:
    x, y = at(explorer, 12)
    explorer.locator(".cdi-logo").focus()
    explorer.mouse.move(x, y + 60)
    explorer.keyboard.press("g")
    changed = mutated(SEQUENCE, (12, "G"))
    wait_for_prediction(explorer, changed)
    explorer.mouse.move(x + 1, y + 61)
    explorer.keyboard.press("Delete")
    changed = changed[:12] + changed[13:]
    wait_for_prediction(explorer, changed)
    explorer.keyboard.press("Control+z")
    explorer.keyboard.press("Control+z")
    wait_for_prediction(explorer, SEQUENCE)
    assert ast.literal_eval(lab.ask(explorer, "len(explorer.session.history)")) == 1


def test_a_click_on_the_heat_map_applies_that_mutation(lab: Lab, explorer: Any) -> None:
    position = 71
    row = "ACGT".index(SEQUENCE[position]) - 1  # -1 is the last
    row %= 4
    x, y = at(explorer, position, ".cdi-map canvas")
    explorer.mouse.click(x, y + 6 + 18 * (row + 0.5))
    changed = mutated(SEQUENCE, (position, "ACGT"[row]))
    wait_for_prediction(explorer, changed)
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == changed


def test_brushing_silences_messages(lab: Lab, explorer: Any) -> None:
    canvas = ".cdi-exchange canvas"
    (x0, y), (x1, _) = at(explorer, 60, canvas), at(explorer, 79, canvas)
    explorer.mouse.move(x0, y + 70)
    explorer.mouse.down()
    explorer.mouse.move((x0 + x1) / 2, y + 70)
    explorer.mouse.move(x1, y + 70)
    explorer.mouse.up()
    explorer.wait_for_function("() => document.querySelector('.cdi-note-line').innerText.includes('Without what')")
    note = explorer.locator(".cdi-note-line").inner_text()
    expected = cdi.ablate_exchange(SEQUENCE, positions=range(60, 80))
    assert f"Without what 60 to 79 receive: {expected.reference:.3f} → {expected.prediction:.3f}" in note
    assert f"({expected.delta:+.3f})" in note


def test_what_is_wrong_is_said_in_the_widget(lab: Lab, explorer: Any) -> None:
    explorer.locator("textarea[placeholder*=FASTA]").fill("ACGT!TT")
    press(explorer, "Load")
    explorer.wait_for_selector("[role=alert]")
    assert "!" in explorer.locator("[role=alert]").inner_text()
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == SEQUENCE
    mine = "ACGTTGCATAATCCGATTACATGCA"
    explorer.locator("textarea[placeholder*=FASTA]").fill(f">mine\n{mine}")
    press(explorer, "Load")
    wait_for_prediction(explorer, mine)
    assert explorer.locator("[role=alert]").count() == 0


@both_kinds_of_kernel
def test_fast_clicks_end_in_the_state_of_the_last(lab: Lab, explorer: Any) -> None:
    changes = [(i, "A" if SEQUENCE[i] != "A" else "C") for i in range(20, 40)]
    for position, base in changes:
        x, y = at(explorer, position, ".cdi-map canvas")
        explorer.mouse.click(x, y + 6 + 18 * ("ACGT".index(base) + 0.5))
    changed = mutated(SEQUENCE, *changes)
    wait_for_prediction(explorer, changed)
    settled(lab, explorer)
    assert shown(explorer) == f"{cdi.predict(changed)[0, 0]:.3f}"
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == changed
    assert ast.literal_eval(lab.ask(explorer, "len(explorer.session.results.mutagenesis.predictions)")) == len(SEQUENCE)


LONGER = (cdi.example("silencer").sequence + SEQUENCE[::-1] + "GATTACA" * 12)[:400]
LETTERS = "() => Array.from(document.querySelectorAll('.cdi-logo [data-plain]')).map((t) => Number(t.dataset.plain))"


def load(page: Any, sequence: str) -> None:
    page.locator("textarea[placeholder*=FASTA]").fill(sequence)
    press(page, "Load")


def shows(lab: Lab, page: Any, sequence: str, first: int = 0, last: int | None = None) -> None:
    """All views show these positions of the sequence, the last included: no more, no less, nothing squashed."""
    last = len(sequence) - 1 if last is None else last
    wait_for_prediction(page, sequence)
    settled(lab, page)
    page.wait_for_function(
        "([first, last]) => { const at = (" + LETTERS + ")();"
        " return at.length === 2 * (last - first + 1) && at[0] === first && at[at.length - 1] === last; }",
        arg=[first, last],
    )
    for drawing, row in ((".cdi-logo svg", 60), (".cdi-map canvas", 15), (".cdi-exchange canvas", 70)):
        box = page.locator(drawing).bounding_box()
        for x, position in ((box["x"] + 63, first), (box["x"] + box["width"] - 23, last)):
            page.mouse.move(x, box["y"] + row)
            readout = page.locator(drawing).locator("xpath=..").locator(".cdi-readout")
            expected = rf"^([ACGT] at {position}\b|{sequence[position]}{position}[ACGT]:)"
            page.wait_for_function(
                "([node, pattern]) => new RegExp(pattern).test(node.innerText)",
                arg=[readout.element_handle(), expected],
            )


def test_undo_and_redo_to_another_length_show_all_of_it(lab: Lab, explorer: Any) -> None:
    explorer.set_viewport_size({"width": 2600, "height": 1500})  # as wide as 400 letters need
    load(explorer, LONGER)
    shows(lab, explorer, LONGER)
    press(explorer, "Undo")
    shows(lab, explorer, SEQUENCE)
    explorer.get_by_role("button", name="show all").click()
    press(explorer, "Redo")
    shows(lab, explorer, LONGER)
    for _ in range(2):
        explorer.get_by_role("button", name="zoom in").click()
    logo = explorer.locator(".cdi-logo")
    logo.focus()
    explorer.keyboard.press("Home")
    explorer.keyboard.press("End")
    explorer.wait_for_function("() => (" + LETTERS + ")().includes(399)")
    press(explorer, "Undo")  # of what was zoomed into, nothing is left
    shows(lab, explorer, SEQUENCE)
    load(explorer, LONGER)  # known already
    shows(lab, explorer, LONGER)
    load(explorer, SEQUENCE)
    shows(lab, explorer, SEQUENCE)


def test_the_window_stays_where_one_works(lab: Lab, explorer: Any) -> None:
    for _ in range(2):
        explorer.get_by_role("button", name="zoom in").click()
    first, last = 62, 102
    shows(lab, explorer, SEQUENCE, first, last)
    assert ast.literal_eval(lab.ask(explorer, "[view.view for view in explorer.views]")) == [[first, last + 1]] * 3
    box = explorer.locator(".cdi-logo svg").bounding_box()
    middle = (first + last) // 2
    explorer.mouse.move(box["x"] + 62 + (box["width"] - 84) / 2, box["y"] + 60)
    explorer.keyboard.press("Delete")
    deleted = SEQUENCE[:middle] + SEQUENCE[middle + 1 :]
    shows(lab, explorer, deleted, first, last)
    lab.ask(explorer, "1", "explorer.session.apply((2, 4, ''))")  # before the window: the bases stay
    shows(lab, explorer, deleted[:2] + deleted[4:], first - 2, last - 2)
    press(explorer, "Undo")
    shows(lab, explorer, deleted, first, last)
    press(explorer, "Undo")
    shows(lab, explorer, SEQUENCE, first, last)
    lab.ask(explorer, "1", "page = explorer.to_html()")
    view = "[state['view'] for _, views in __import__('json').loads(page.split('const PAGE = ')[1].split(';\\n')[0])"
    assert ast.literal_eval(lab.ask(explorer, view + " for _, state in views]")) == [[first, last + 1]] * 3


def test_a_sequence_outside_of_the_training_range_is_marked(lab: Lab, explorer: Any) -> None:
    assert explorer.locator(".cdi-outside").count() == 0
    below = explorer.locator(".cdi-logo svg").bounding_box()["y"]
    sequence = SEQUENCE[:40]
    load(explorer, sequence)
    wait_for_prediction(explorer, sequence)
    problem = cdi.outside_training(cdi.load_model(), sequence)
    assert problem in explorer.locator(".cdi-outside").inner_text()
    settled(lab, explorer)
    assert explorer.locator(".cdi-logo svg").bounding_box()["y"] == pytest.approx(below, abs=1)  # nothing moves away
    press(explorer, "Undo")
    wait_for_prediction(explorer, SEQUENCE)
    assert explorer.locator(".cdi-outside").count() == 0


@both_kinds_of_kernel
def test_typing_edits_the_sequence_and_not_the_notebook(lab: Lab, explorer: Any) -> None:
    """In command mode, as after Run All, letters are commands to the notebook: A inserts a cell, X cuts one."""
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    mode = "() => window.jupyterapp.shell.currentWidget.content.mode"
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    explorer.evaluate("() => { window.jupyterapp.commands.execute('notebook:enter-command-mode'); }")
    count, cell, scrolled = explorer.evaluate(cells), explorer.evaluate(active), explorer.evaluate("window.scrollY")
    position = next(i for i in range(20, 60) if SEQUENCE[i : i + 3] not in ("ACG",) and SEQUENCE[i] != "A")
    x, y = at(explorer, position)
    explorer.mouse.move(x - 2, y + 58)
    explorer.mouse.move(x, y + 60)
    for key in ("a", "x", "c", "b", "g"):  # after each base the cursor goes on
        explorer.keyboard.press(key)
    changed = SEQUENCE[:position] + "ACG" + SEQUENCE[position + 3 :]
    wait_for_prediction(explorer, changed)
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == changed
    assert explorer.evaluate(cells) == count
    explorer.mouse.move(x, explorer.locator(".cdi-exchange").bounding_box()["y"] + 5)
    explorer.wait_for_function("() => !document.activeElement.classList.contains('cdi')")
    assert explorer.evaluate(active) == cell
    assert explorer.evaluate(mode) == "command"
    assert explorer.evaluate("window.scrollY") == scrolled
    explorer.keyboard.press("b")  # away from the logo, it is the notebook's again
    explorer.wait_for_function(f"(count) => ({cells})() === count + 1", arg=count)
    assert ast.literal_eval(lab.ask(explorer, "explorer.session.sequence")) == changed


def test_the_chooser_closes_when_the_base_is_typed(lab: Lab, explorer: Any) -> None:
    x, y = at(explorer, 30)
    explorer.mouse.click(x, y + 60)
    assert explorer.locator(".cdi-chooser").is_visible()
    base = "A" if SEQUENCE[30] != "A" else "C"
    explorer.keyboard.press(base)
    assert not explorer.locator(".cdi-chooser").is_visible()
    wait_for_prediction(explorer, mutated(SEQUENCE, (30, base)))


def test_the_other_strand_and_a_pin(lab: Lab, explorer: Any) -> None:
    press(explorer, "Pin")
    press(explorer, "Other strand")
    explorer.wait_for_timeout(300)
    first = explorer.locator(".cdi-logo [data-plain]").first
    assert first.get_attribute("data-plain") == str(len(SEQUENCE) - 1)
    assert first.inner_html() == {"A": "T", "C": "G", "G": "C", "T": "A"}[SEQUENCE[-1]]
    choose(explorer, 0, "A" if SEQUENCE[-1] != "A" else "C")  # the first on screen is the last base
    explorer.wait_for_selector(".cdi-logo [data-wild]", state="attached")
    settled(lab, explorer)
    explorer.wait_for_selector(".cdi-comparison:has-text('through exchange')")
    changed = ast.literal_eval(lab.ask(explorer, "explorer.session.sequence"))
    assert changed[:-1] == SEQUENCE[:-1]
    assert changed[-1] != SEQUENCE[-1]
    text = explorer.locator(".cdi-comparison").inner_text()
    total, through = map(float, re.findall(r"[+-]\d+\.\d\d", text))
    one, other = (cdi.strand_exchange(seq).effects for seq in (SEQUENCE, changed))
    assert total == pytest.approx(other.both - one.both, abs=0.0051)
    assert through == pytest.approx(other.total - one.total, abs=0.0051)


def test_a_saved_notebook_shows_the_picture_without_a_kernel(lab: Lab, explorer: Any, make_page: Callable) -> None:
    explorer.evaluate(SAVE)
    explorer.wait_for_function("() => window.saved")
    still = "img.jp-needs-light-background.jp-mod-unconfined"
    assert not explorer.locator(still).is_visible()  # beside the living widget it would be one too many
    folder = Path(lab.log.name).parent / "notebooks"
    shutil.copy(folder / NOTEBOOK.name, folder / "closed.ipynb")
    page, _ = make_page()
    lab.open(page, "closed.ipynb")  # trusted, as one's own notebooks are; its kernel has run nothing
    page.wait_for_selector(still, timeout=20_000)
    assert page.locator(still).evaluate("(image) => image.naturalWidth") > 600

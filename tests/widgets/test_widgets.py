"""The Python side of the widgets: values for the browser, and requests from it. No browser is needed."""

from __future__ import annotations

import base64
import gc
import json
import re
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances as widget_registry
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.session import Session
from crossdna_interpret.widgets import drawn
from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.explorer import Explorer
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap

SEQUENCE = "GATTACAGCCATTGACCGTATCAG"
LONGER = "CCTTGGAACGTTAACCGGTTACCA" * 5


def floats(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<f4")


@pytest.fixture
def explorer(model: CrossDNA) -> Explorer:
    return Explorer(Session(SEQUENCE, model, background=False), ["silencer"])


def test_views_get_the_numbers_of_their_results(model: CrossDNA) -> None:
    result = cdi.ism(SEQUENCE, model)
    np.testing.assert_array_equal(floats(LogoView(result).forward), result.importance)
    np.testing.assert_array_equal(floats(MutagenesisMap(result).delta), result.delta.ravel())
    x = cdi.strand_exchange(SEQUENCE, model)
    view = StrandExchangeMap(x)
    terms = floats(view.terms).reshape(-1, 4)
    assert len(terms) == 2 * len(SEQUENCE) ** 2
    assert (np.diff(np.abs(terms[:, 3])) <= 0).all()
    way, receiver, sender = terms[7, :3].astype(int)
    assert terms[7, 3] == x.contributions[way, receiver, sender]
    np.testing.assert_allclose(floats(view.map).reshape(x.contributions.shape), x.contributions)
    np.testing.assert_allclose(floats(view.received).reshape(4, -1)[:2], x.received, rtol=1e-6)
    view.source = "global mean"
    np.testing.assert_allclose(floats(view.map).reshape(x.contributions.shape), x.by_source[6])


def test_long_maps_are_summed_into_cells(make_model: Callable, make_sequence: Callable) -> None:
    x = cdi.strand_exchange(make_sequence(700), make_model(block_size=350))
    state = drawn.exchange_map(x)
    cells = floats(state["map"]).reshape(2, 328, 328)
    np.testing.assert_allclose(cells.sum(), x.contributions.sum(dtype=np.float64), rtol=1e-4)
    edges = np.arange(328) * 700 // 328
    expected = x.contributions[1, edges[5] : edges[6], edges[9] : edges[10]].sum()
    assert cells[1, 5, 9] == pytest.approx(expected, abs=1e-7)
    assert len(state["terms"]) == 1500 * 16


def test_a_part_cannot_be_drawn(model: CrossDNA) -> None:
    part = cdi.ism(SEQUENCE, model, start=3, end=9)
    for view in (LogoView, MutagenesisMap):
        with pytest.raises(ValueError, match="but got that of 3 to 9 of 24 bases"):
            view(part)


def test_what_the_screen_asks_for_is_done(explorer: Explorer, model: CrossDNA) -> None:
    heard: Any = explorer.logo._received
    heard({"type": "edit", "start": 3, "end": 4, "string": "G"})
    changed = f"{SEQUENCE[:3]}G{SEQUENCE[4:]}"
    assert explorer.session.sequence == explorer.logo.sequence == explorer.exchange.sequence == changed
    assert explorer.logo.wild == SEQUENCE
    assert not explorer.logo.stale
    np.testing.assert_allclose(floats(explorer.mutations.delta), cdi.ism(changed, model).delta.ravel(), atol=1e-6)
    assert f">{cdi.predict(changed, model)[0, 0]:.3f}<" in explorer._said.value
    assert not explorer.undo.disabled
    heard({"type": "undo"})
    assert explorer.logo.sequence == SEQUENCE
    heard({"type": "redo"})
    assert explorer.logo.sequence == changed
    explorer.exchange._received({"type": "silence", "start": 4, "end": 9})
    expected = cdi.ablate_exchange(changed, model, positions=range(4, 9))
    assert explorer.exchange.note.startswith("Without what 4 to 8 receive: ")
    assert f"({expected.delta:+.3f})" in explorer.exchange.note
    explorer.exchange.selection = [4, 9]
    explorer.exchange.side = "sender"
    assert "Without what 4 to 8 send: " in explorer.exchange.note
    explorer.exchange._received({"type": "silence"})
    assert explorer.exchange.note == ""


@pytest.mark.parametrize(
    "message",
    [
        {"type": "edit"},
        {"type": "edit", "start": "a", "end": None, "string": 3},
        {"type": "edit", "start": 90, "end": 91, "string": "A"},
        {"type": "silence", "start": 4, "end": 4},
        {"type": "silence", "start": -3, "end": 900},
        {"type": "silence", "start": "a", "end": 9},
        {"type": 7},
        {"type": "nothing known"},
        "text",
        None,
    ],
)
def test_nonsense_from_the_screen_changes_nothing(explorer: Explorer, message: object) -> None:
    for view in explorer.views:
        view._received(message)
    assert explorer.session.sequence == SEQUENCE
    assert len(explorer.session.history) == 1


def test_controls_do_what_they_say(explorer: Explorer) -> None:
    explorer.text.value = ">mine\nACGTTGCAACGTTGCA"
    explorer.load.click()
    assert explorer.logo.sequence == "ACGTTGCAACGTTGCA"
    explorer.text.value = "ACGTX"
    explorer.load.click()
    assert "role='alert'" in explorer._error.value
    assert "X" in explorer._error.value
    explorer.undo.click()
    assert explorer.logo.sequence == SEQUENCE
    assert explorer._error.value == ""
    explorer.pin.value = True
    explorer.session.apply((0, 1, "C"))
    assert "against the pinned sequence" in explorer._said.value
    explorer.reset.click()
    assert explorer.session.sequence == SEQUENCE
    explorer.pin.value = False
    assert explorer.session.pinned is None
    explorer.example.value = "silencer"
    assert explorer.session.name == "silencer"
    explorer.palette.value = "classic"
    assert explorer.logo.palette == "classic"


def test_a_selection_is_the_sessions(explorer: Explorer) -> None:
    explorer.logo.selection = [3, 8]
    assert explorer.session.selection == (3, 8)
    assert explorer.mutations.selection == explorer.exchange.selection == [3, 8]
    explorer.session.select(5, 6)
    assert explorer.logo.selection == [5, 6]
    explorer.session.apply((0, 1, "C"))
    assert explorer.logo.selection == []
    explorer.logo.selection = [4, 2]
    assert "A selection must lie within" in explorer._error.value
    assert explorer.session.selection is None


def test_what_is_chosen_while_results_come_in_is_not_lost(explorer: Explorer) -> None:
    """The explorer updates in the computing thread. A choice of the user may come during an update."""
    chosen = []

    def choose(topic: str) -> None:
        if topic == "prediction" and not chosen:
            chosen.append(topic)
            explorer.method.value = "gradient"

    explorer._show_busy = lambda: choose("prediction")  # type: ignore[method-assign]  # while it shows what it heard
    explorer.session.apply((0, 1, "C"))
    assert chosen
    assert explorer.session.method == "gradient"


def test_the_history_can_be_taken_along(explorer: Explorer) -> None:
    explorer.session.apply((0, 1, "C"))
    files = dict(re.findall(r"download='([^']*)' href='data:text/plain;base64,([^']*)'", explorer._taken.value))
    assert base64.b64decode(files["sequence.fa"]).decode() == explorer.session.to_fasta()
    assert base64.b64decode(files["sequence_history.tsv"]).decode() == explorer.session.to_tsv()
    assert base64.b64decode(files["sequence_history.py"]).decode() == explorer.session.to_python()


def test_names_from_outside_are_escaped(explorer: Explorer) -> None:
    explorer.text.value = "><img/src=x>' onclick='\nACGTTGCA"
    explorer.load.click()
    assert explorer.session.name == "<img/src=x>'"
    assert "<img" not in explorer._said.value + explorer._taken.value
    assert "<img" not in explorer.to_html().partition("<script")[0]


def test_names_are_no_mathematics_and_not_endless(explorer: Explorer) -> None:
    explorer.session.replace_sequence(f">{'$x{$' + 'n' * 5000}\n{SEQUENCE}")
    figure = explorer.figure()
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    (title,) = [text for text in figure.findobj(Text) if "began with" in text.get_text()]
    assert title.get_window_extent().x1 <= figure.bbox.x1
    (name, *_) = re.findall(r"download='([^']*)'", explorer._taken.value)
    assert len(name) < 200


def test_a_model_without_a_bridge_shows_what_it_has(make_model: Callable) -> None:
    explorer = Explorer(Session(SEQUENCE, make_model(use_bridge=False), background=False))
    assert explorer.exchange.terms == b""
    assert "no bridge" in explorer.exchange.hint
    explorer.exchange._received({"type": "silence", "start": 4, "end": 9})
    assert explorer.exchange.note == ""
    assert explorer.figure() is not None


def test_lengths_may_change(explorer: Explorer) -> None:
    explorer.session.apply((4, 6, ""))
    assert len(floats(explorer.logo.forward)) == len(SEQUENCE) - 2
    assert explorer.logo.wild == explorer.session.sequence
    explorer.session.apply((0, 0, "GG"))
    assert explorer.logo.wild.startswith("--GATT")


A, B = SEQUENCE * 3, LONGER


WINDOWS: dict[str, tuple[list[float], str, str, list[float]]] = {
    "all of it stays all of it": ([0, 0], A, B, [0, 0]),
    "an empty window is all of it": ([], A, B, []),
    "another sequence of the same length": ([10, 30], A, A[::-1], [10, 30]),
    "a longer one": ([10, 30], A, B, [0, 0]),
    "a shorter one": ([10, 30], B, A, [0, 0]),
    "a base behind the window goes": ([10, 30], A, A[:50] + A[51:], [10, 30]),
    "a base before the window goes": ([10, 30], A, A[:4] + A[5:], [9, 29]),
    "and comes back": ([10, 30], A[:4] + A[5:], A, [11, 31]),
    "two bases more at the beginning": ([10, 30], A, "GG" + A, [12, 32]),
    "the window ends where the sequence does": ([52, 72], A, A[:60] + A[66:], [46, 66]),
    "more than there is": ([3, 71], A, A[:60], [0, 0]),
    "its own beginning goes": ([10, 30], A, A[:8] + A[20:], [8, 28]),
    "nothing was shown before": ([10, 30], "", A, [10, 30]),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_a_window_stays_on_the_bases_that_it_shows(case: str) -> None:
    window, before, after, expected = WINDOWS[case]
    assert drawn.window_after(window, before, after) == expected


def test_a_window_of_another_length_does_not_outlive_undo_and_redo(explorer: Explorer) -> None:
    session = explorer.session
    session.replace_sequence(LONGER)
    assert explorer.logo.view == [0, 0]
    for view in explorer.views:
        view.view = [80.0, 100.0]  # as where the screen is zoomed in
    session.undo()
    assert [view.view for view in explorer.views] == [[0, 0]] * 3
    for view in explorer.views:
        view.view = [10.0, 20.0]
    session.apply((2, 3, ""))
    assert [view.view for view in explorer.views] == [[9, 19]] * 3
    session.undo()
    assert [view.view for view in explorer.views] == [[10, 20]] * 3
    session.redo()  # whose results are known
    assert [view.view for view in explorer.views] == [[9, 19]] * 3


def test_what_is_shown_while_results_are_computed_is_of_this_sequence(explorer: Explorer) -> None:
    """Results of the previous sequence must not appear with a new sequence."""
    explorer.exchange.note = "Without what 4 to 8 receive: ..."
    stage, explorer.session.stages = explorer.session.stages, ()
    explorer.session.replace_sequence(LONGER)
    for view in explorer.views:
        assert view.sequence == LONGER
        assert view.stale
        assert view.label == ""
        assert view.figure() is None
    assert explorer.exchange.note == explorer.exchange.label == ""
    assert explorer.mutations.limit == explorer.exchange.largest == 0
    assert explorer.exchange.terms == explorer.logo.forward == explorer.mutations.delta == b""
    explorer.exchange.source = "global mean"  # must not bring the sequence before back
    assert explorer.exchange.sequence == LONGER
    explorer.session.stages = stage
    explorer.session.apply((0, 1, "T"))
    assert explorer.exchange.label.startswith("exchange adds")


def test_the_menu_names_the_locus_that_is_shown(explorer: Explorer, model: CrossDNA) -> None:
    assert explorer.example.value == ""
    explorer.example.value = "silencer"
    silencer = explorer.session.sequence
    assert explorer.session.example == "silencer"
    explorer.session.apply((3, 4, ""))  # an edited silencer still comes from it
    assert explorer.example.value == "silencer"
    explorer.text.value = f">silencer\n{LONGER}"  # a name alone is not enough
    explorer.load.click()
    assert explorer.example.value == ""
    explorer.example.value = "silencer"  # can be chosen again
    assert explorer.session.sequence == silencer
    fresh = Explorer(Session(None, model, background=False, stages=()), ["strong-enhancer", "silencer"])
    assert fresh.example.value == "strong-enhancer"
    assert len(fresh.session.history) == 1


def test_a_note_on_silenced_messages_is_of_one_sequence_and_target(make_model: Callable) -> None:
    explorer = Explorer(Session(SEQUENCE, make_model(targets=("one", "two")), background=False))
    for change in (lambda: explorer.session.apply((0, 1, "C")), lambda: explorer.session.set_target("two")):
        explorer.exchange._received({"type": "silence", "start": 4, "end": 9})
        explorer.session.select(4, 9)
        assert explorer.exchange.note.startswith("Without what 4 to 8 receive: ")
        change()
        assert explorer.exchange.note == ""


def test_a_sequence_outside_of_the_training_range_is_marked_with_every_edit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", cdi.OutsideTrainingWarning)  # the explorer says it
        explorer = Explorer(Session(None, background=False, stages=("prediction", "exchange")))
        session = explorer.session
        assert "trained on" not in explorer._said.value
        for change in (lambda: session.apply((3, 4, "")), lambda: session.replace_sequence("ACG"), session.undo):
            change()
            problem = cdi.outside_training(cdi.load_model(), session.sequence)
            assert problem is not None
            assert f"Outside of what the model was trained on: {problem}." in explorer._said.value
            assert f"{problem}." in explorer.to_html().partition("<script")[0]
        explorer.exchange._received({"type": "silence", "start": 4, "end": 9})
        session.undo()
        assert "trained on" not in explorer._said.value


def test_a_gap_between_orientations_that_cannot_be_is_no_evidence(make_model: Callable) -> None:
    model = make_model(block_size=None)
    said = Explorer(Session(SEQUENCE, model, background=False, stages=("prediction",)))._said.value
    one, other = cdi.predict([SEQUENCE, cdi.reverse_complement(SEQUENCE)], model)[:, 0]
    assert f"reverse complement {other:.3f} (gap {other - one:+.3f})" in said
    model.load_state_dict(symmetrized(model.state_dict(), keep="both"))
    explorer = Explorer(Session(SEQUENCE, model, background=False, stages=("prediction",)))
    prediction = f"{explorer.session.prediction:.3f}"
    assert f"reverse complement {prediction} (equal by construction)" in explorer._said.value


def test_an_ordinary_model_is_not_drawn_as_one_of_two_strands() -> None:
    ordinary = cdi.wrap(torch.nn.Sequential(torch.nn.Conv1d(4, 2, 5, padding=2), torch.nn.AdaptiveAvgPool1d(1),
                                            torch.nn.Flatten()), targets=["one", "two"])  # fmt: skip
    explorer = Explorer(Session(SEQUENCE, ordinary, background=False, method="gradient"))
    assert [name for name, _ in explorer.method.options] == ["mutagenesis", "integrated gradients", "gradient"]
    assert explorer.logo.reverse == b""
    np.testing.assert_allclose(floats(explorer.logo.forward), explorer.session.attribution.importance, atol=1e-7)
    assert explorer.exchange not in explorer.children
    page = explorer.to_html()
    assert "exchange_map" not in page.partition("const PAGE = ")[2]
    crossdna = LogoView(cdi.input_gradient(SEQUENCE))
    assert len(floats(crossdna.reverse)) == len(SEQUENCE)


def test_pages_stand_alone(explorer: Explorer, tmp_path: Any) -> None:
    text = explorer.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    assert repr(text) == f"Page of {len(text):,} characters"  # in a notebook, as the last line of a cell
    assert len(re.findall("<script", text)) == 1
    assert "http://www.w3.org" in text  # the name of SVG, and the only address
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "logo_view" in LogoView(cdi.ism(SEQUENCE, explorer.session.model)).to_html()


def test_linked_views_are_linked_on_a_page_too(explorer: Explorer) -> None:
    """A notebook links them on screen, where Python's values may lag behind."""
    explorer.logo.view, explorer.logo.flipped, explorer.logo.palette = [4.0, 12.0], True, "classic"
    explorer.exchange.cursor = 7
    (page,) = re.findall(r"const PAGE = (.*);", explorer.to_html())
    states = [state for _, views in json.loads(page) for _, state in views]
    assert len(states) == 3
    for state in states:
        assert (state["view"], state["flipped"], state["palette"]) == ([4.0, 12.0], True, "classic")
        assert state["cursor"] == -1  # nobody points at it yet


def test_a_page_invites_to_nothing_that_it_cannot_do(explorer: Explorer) -> None:
    (page,) = re.findall(r"const PAGE = (.*);", explorer.to_html())
    hints = {module: state["hint"] for _, views in json.loads(page) for module, state in views}
    assert hints["logo_view"].startswith("Point at a base")
    assert "type" not in hints["logo_view"]
    (bare,) = re.findall(r"const PAGE = (.*);", LogoView(cdi.ism(SEQUENCE, explorer.session.model)).to_html())
    assert json.loads(bare)[0][1][0][1]["hint"] == ""


def test_a_page_does_not_wait_for_ever(explorer: Explorer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer.session._computing, "wait", lambda timeout: timeout is None)
    with pytest.raises(TimeoutError, match=r"Still computing after 0\.5 s"):
        explorer.to_html(tmp_path / "page.html", timeout=0.5)
    assert list(tmp_path.iterdir()) == []
    assert "GATTACA" in explorer.to_html(timeout=None)


def test_closing_ends_it(explorer: Explorer) -> None:
    explorer.close()
    explorer.close()  # is no error
    explorer.session.apply((0, 1, "C"))
    assert explorer.logo.sequence == SEQUENCE


def test_a_closed_explorer_leaves_nothing_behind(model: CrossDNA) -> None:
    registered = set(widget_registry)
    explorer = Explorer(Session(SEQUENCE, model, background=False, stages=("prediction",)), ["silencer"])
    held = [weakref.ref(each) for each in (explorer, explorer.logo, explorer.session, explorer.session.model)]
    assert len(widget_registry) > len(registered) + 30
    explorer.close()
    assert set(widget_registry) == registered
    del explorer
    gc.collect()
    assert [reference() for reference in held] == [None] * 4


def test_an_explorer_that_was_never_made_can_be_collected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AttributeError):
        Explorer(None)  # type: ignore[arg-type]
    gc.collect()
    assert capsys.readouterr().err == ""


def test_without_widgets_installed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("crossdna_interpret.widgets.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'crossdna_interpret\[lab\]'"):
        cdi.explore(SEQUENCE)

"""The widgets' Python side: what is sent to the screen, and what is done with what comes from it. No browser."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.session import Session
from crossdna_interpret.widgets import drawn
from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.explorer import Explorer
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap

SEQUENCE = "GATTACAGCCATTGACCGTATCAG"


def floats(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<f4")


@pytest.fixture
def explorer(model: CrossDNA) -> Explorer:
    return Explorer(Session(SEQUENCE, model, background=False), ["silencer"])


def test_views_get_the_numbers_of_their_results(model: CrossDNA) -> None:
    found = cdi.ism(SEQUENCE, model)
    np.testing.assert_array_equal(floats(LogoView(found).forward), found.importance)
    np.testing.assert_array_equal(floats(MutagenesisMap(found).delta), found.delta.ravel())
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
    heard: Any = explorer.logo._heard
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
    explorer.exchange._heard({"type": "silence", "start": 4, "end": 9})
    expected = cdi.ablate_exchange(changed, model, positions=range(4, 9))
    assert explorer.exchange.note.startswith("Without what 4 to 8 receive: ")
    assert f"({expected.delta:+.3f})" in explorer.exchange.note
    explorer.exchange.selection = [4, 9]
    explorer.exchange.side = "sender"
    assert "Without what 4 to 8 send: " in explorer.exchange.note
    explorer.exchange._heard({"type": "silence"})
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
        view._heard(message)
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
    """The explorer shows what it hears, in the thread that computes; a choice of the user may fall into that."""
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


def test_a_model_without_a_bridge_shows_what_it_has(make_model: Callable) -> None:
    explorer = Explorer(Session(SEQUENCE, make_model(use_bridge=False), background=False))
    assert explorer.exchange.terms == b""
    assert "no bridge" in explorer.exchange.hint
    explorer.exchange._heard({"type": "silence", "start": 4, "end": 9})
    assert explorer.exchange.note == ""
    assert explorer.figure() is not None


def test_lengths_may_change(explorer: Explorer) -> None:
    explorer.session.apply((4, 6, ""))
    assert len(floats(explorer.logo.forward)) == len(SEQUENCE) - 2
    assert explorer.logo.wild == explorer.session.sequence
    explorer.session.apply((0, 0, "GG"))
    assert explorer.logo.wild.startswith("--GATT")


def test_pages_stand_alone(explorer: Explorer, tmp_path: Any) -> None:
    text = explorer.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    assert len(re.findall("<script", text)) == 1
    assert "http://www.w3.org" in text  # the name of SVG, and the only address
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "logo_view" in LogoView(cdi.ism(SEQUENCE, explorer.session.model)).to_html()


def test_closing_ends_it(explorer: Explorer) -> None:
    explorer.close()
    explorer.session.apply((0, 1, "C"))
    assert explorer.logo.sequence == SEQUENCE


def test_without_widgets_installed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("crossdna_interpret.widgets.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'crossdna_interpret\[lab\]'"):
        cdi.explore(SEQUENCE)

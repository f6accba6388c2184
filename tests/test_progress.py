"""The progress bar: not shown outside terminals and for short jobs, shown for long jobs."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from crossdna_interpret import integrated_gradients, ism, predict
from crossdna_interpret import progress as progress_module
from crossdna_interpret.progress import progress, progress_callback


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Screen]:
    """Puts a stream in the place of stderr, in a process without a notebook."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)

    def replace(terminal: bool) -> Screen:
        screen = Screen(terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return replace


def test_watched_on_a_terminal_or_in_a_notebook(stderr: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr(terminal=True)
    assert progress_module._is_interactive()
    stderr(terminal=False)
    assert not progress_module._is_interactive()
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert progress_module._is_interactive()
    monkeypatch.setattr(sys, "stderr", None)  # as in a program without a console
    assert not progress_module._is_interactive()


def test_long_jobs_show_a_bar_where_somebody_watches(stderr: Callable) -> None:
    watched, unwatched = stderr(terminal=True), None
    with progress(40, "scoring", "sequence") as bar:
        unwatched = stderr(terminal=False)
        with progress(40, "unseen", "sequence") as silent:
            bar.update(10)
            assert watched.getvalue() == ""  # not before the delay
            time.sleep(2.1)
            bar.update(10)
            silent.update(10)
    shown = watched.getvalue()
    assert "scoring" in shown
    assert "20/40" in shown
    assert shown.endswith("\r")  # cleared at the end
    assert unwatched.getvalue() == ""


@pytest.mark.slow
def test_of_work_within_work_the_outer_bar_is_shown(stderr: Callable) -> None:
    screen = stderr(terminal=True)
    with progress(2, "design", "edit") as outer:
        time.sleep(2.1)
        with progress(40, "score_edits", "edit") as inner:
            inner.update(10)
            time.sleep(2.1)
            inner.update(10)
        outer.update(1)
    assert "1/2" in screen.getvalue()
    assert "score_edits" not in screen.getvalue()
    with progress(40, "after", "edit") as bar:
        time.sleep(2.1)
        bar.update(10)
    assert "after" in screen.getvalue()


def test_short_jobs_show_nothing(stderr: Callable) -> None:
    screen = stderr(terminal=True)
    with progress(3, "scoring", "sequence") as bar:
        for _ in range(3):
            bar.update(1)
    assert screen.getvalue() == ""


def test_no_stderr_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    with progress(2, "scoring", "sequence") as bar:
        bar.update(2)


@pytest.mark.parametrize("terminal", [True, False])
def test_analyses_print_nothing_for_short_jobs(
    terminal: bool, stderr: Callable, capsys: pytest.CaptureFixture, make_model: Callable, make_sequence: Callable
) -> None:
    model, sequence, screen = make_model(), make_sequence(12), stderr(terminal)
    predict([sequence] * 2, model, batch_size=1)
    ism(sequence, model)
    integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=2, tolerance=1e6)
    assert screen.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_listener_is_told_instead(stderr: Callable) -> None:
    watched, report = stderr(terminal=True), []
    with progress_callback(lambda *what: report.append(what)), progress(5, "scoring", "sequence") as bar:
        bar.update(2)
        bar.update(3)
    assert report == [("scoring", 2, 5), ("scoring", 5, 5)]
    assert watched.getvalue() == ""
    with progress(5, "scoring", "sequence") as bar:
        assert type(bar).__name__ == "tqdm"


def test_what_a_listener_raises_ends_the_work(make_model: Callable) -> None:
    class EnoughError(Exception):
        pass

    def enough(label: str, done: int, total: int) -> None:
        raise EnoughError

    with progress_callback(enough), pytest.raises(EnoughError):
        ism("ACGTACGT", make_model())
    assert ism("ACGTACGT", make_model()).predictions.shape == (8, 4, 1)

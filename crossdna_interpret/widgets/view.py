"""The base of all views."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crossdna_interpret.widgets.drawn import DEFAULTS, static_text, window_after
from crossdna_interpret.widgets.page import Page, page_of

__all__ = ["View", "display_with_picture", "module_text"]

Action = Callable[[dict[str, Any]], None]


def module_text(name: str) -> str:
    """The JavaScript module of a view, after the code that all views share."""
    return static_text("common.js") + static_text(f"{name}.js")


def picture(figure: Figure) -> str:
    """A figure as PNG, base64."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def display_with_picture(bundle: Any, figure: Figure | None, text: str) -> None:
    """Display a widget, and after it a picture for environments without widgets.

    Without its kernel, a notebook cannot show the widget. In a trusted notebook, JupyterLab does not use another MIME
    type of the same output either. So the picture is a separate output. The style sheet hides it while the widget is
    alive, and recognises the picture by its background.

    Args:
        bundle: MIME bundle of the widget.
        figure: figure for the picture, or None.
        text: text for environments without pictures.
    """
    from IPython.display import display

    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    display({**data, "text/plain": text}, metadata=metadata, raw=True)
    if figure is not None:
        still = {"image/png": {"unconfined": True}, "needs_background": "light"}
        display({"image/png": picture(figure), "text/plain": text}, metadata=still, raw=True)


class View(anywidget.AnyWidget):
    """A drawing of one sequence.

    Attributes:
        sequence: the drawn sequence.
        wild: the wild-type base at each position, "-" for an inserted base. Empty if it is not needed.
        view: first displayed position and one after the last. Empty or equal values mean all positions. It follows the
            zoom in the browser, and stays on the same bases after insertions and deletions.
        cursor: the position under the pointer, or -1.
        selection: selected positions (half-open), or empty.
        flipped: whether the reverse strand reads from left to right.
        palette: "colorblind" or "classic".
        editable: whether clicks and keys request edits.
        stale: whether the results are outdated and new ones are being computed.
        label: description of the drawing.
        hint: text that is shown while the pointer is at no base.
    """

    MODULE = ""
    result: Any
    _css = static_text("style.css")

    sequence = traitlets.Unicode().tag(sync=True)
    wild = traitlets.Unicode().tag(sync=True)
    # No echo: a late echo would undo a newer zoom or cursor.
    view = traitlets.List(traitlets.Float(), [0.0, 0.0]).tag(sync=True, echo_update=False)
    cursor = traitlets.Int(-1).tag(sync=True, echo_update=False)
    selection = traitlets.List(traitlets.Int()).tag(sync=True)
    flipped = traitlets.Bool(False).tag(sync=True)
    palette = traitlets.Enum(["colorblind", "classic"], "colorblind").tag(sync=True)
    editable = traitlets.Bool(False).tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def __init__(self, result: Any = None, **traits: Any) -> None:
        self._actions: list[Action] = []
        self.result = None
        super().__init__(**traits)
        self.on_msg(lambda widget, content, buffers: self._received(content))
        if result is not None:
            self.show(result)

    @traitlets.observe("sequence")
    def _keep_window(self, change: Any) -> None:
        self.view = window_after(self.view, change["old"], change["new"])

    def show(self, result: Any, **traits: Any) -> None:
        """Draw a result and set traits at the same time."""
        state = self._drawn(result)
        self.result = result
        with self.hold_sync():
            for name, value in (state | traits).items():
                setattr(self, name, value)

    def _drawn(self, result: Any) -> dict[str, Any]:
        """Traits of the view for a result."""
        raise NotImplementedError

    def on_action(self, action: Action) -> None:
        """Call `action` with each request from the browser: a dict with `type` "edit", "undo", "redo" or "silence"."""
        self._actions.append(action)

    def _received(self, content: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("type"), str):
            for action in self._actions:
                action(content)

    def figure(self) -> Figure | None:
        """A matplotlib figure of the view, or None if there is nothing to draw."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        display_with_picture(self._repr_mimebundle_(), self.figure(), f"{type(self).__name__}: {self.label}")

    def state(self) -> dict[str, Any]:
        """The traits that the view's module reads, by name."""
        return {name: getattr(self, name) for name in self.keys if name in DEFAULTS}

    def to_html(self, path: str | Path | None = None) -> Page:
        """One HTML page with only this view, with hover and zoom. It works without kernel and network.

        Args:
            path: file to write, or None.
        """
        text = page_of(self.label or "Sequence view", [(self.MODULE, self.state())])
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

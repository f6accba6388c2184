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
from crossdna_interpret.widgets.page import page_of

__all__ = ["View", "display_with_picture", "module_text"]

Action = Callable[[dict[str, Any]], None]


def module_text(name: str) -> str:
    """A view's module, with what all of them share before it."""
    return static_text("common.js") + static_text(f"{name}.js")


def picture(figure: Figure) -> str:
    """A figure as PNG, base64."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def display_with_picture(bundle: Any, figure: Figure | None, text: str) -> None:
    """Display a widget, and after it a picture for where no widget runs.

    A notebook that is opened again without its kernel cannot show the widget, and Lab does not fall back on another
    type of the same output once the notebook is trusted. So the picture is an output of its own, which the style sheet
    hides while the widget beside it is alive. The style sheet knows the picture by its background.

    Args:
        bundle: the widget's own MIME bundle.
        figure: to draw the picture from, or None.
        text: for where there are no pictures either.
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
        sequence: what is drawn.
        wild: the base that each was in the beginning, "-" for one that was put in; empty if that is no matter.
        view: first displayed position and the one after the last; empty or equal for all of them. It follows what is
            zoomed on screen, and stays on the same bases when a few others are inserted or deleted.
        cursor: the position that is pointed at, or -1.
        selection: first and last position (half-open), or nothing.
        flipped: whether the reverse strand is the one that is read from left to right.
        palette: "colorblind" or "classic".
        editable: whether clicks and keys ask for edits.
        stale: whether newer numbers are on their way.
        label: what is drawn, in words.
        hint: what is said while nothing is pointed at.
    """

    MODULE = ""
    result: Any
    _css = static_text("style.css")

    sequence = traitlets.Unicode().tag(sync=True)
    wild = traitlets.Unicode().tag(sync=True)
    # Not echoed: an echo that comes late would undo what has been zoomed or pointed at meanwhile.
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
        self.on_msg(lambda widget, content, buffers: self._heard(content))
        if result is not None:
            self.show(result)

    @traitlets.observe("sequence")
    def _keep_window(self, change: Any) -> None:
        self.view = window_after(self.view, change["old"], change["new"])

    def show(self, result: Any, **traits: Any) -> None:
        """Draw a result, and set traits together with it."""
        state = self._drawn(result)
        self.result = result
        with self.hold_sync():
            for name, value in (state | traits).items():
                setattr(self, name, value)

    def _drawn(self, result: Any) -> dict[str, Any]:
        """Traits of the view for a result."""
        raise NotImplementedError

    def on_action(self, action: Action) -> None:
        """Call `action` with each request from the screen: a dict with `type` "edit", "undo", "redo" or "silence"."""
        self._actions.append(action)

    def _heard(self, content: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("type"), str):
            for action in self._actions:
                action(content)

    def figure(self) -> Figure | None:
        """The drawing by matplotlib, or None while there is nothing to draw."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        display_with_picture(self._repr_mimebundle_(), self.figure(), f"{type(self).__name__}: {self.label}")

    def state(self) -> dict[str, Any]:
        """The traits that the view's module reads, by name."""
        return {name: getattr(self, name) for name in self.keys if name in DEFAULTS}

    def to_html(self, path: str | Path | None = None) -> str:
        """One page with this view alone, with hover and zoom, that needs neither kernel nor network.

        Args:
            path: where to write it, if anywhere.
        """
        text = page_of(self.label or "Sequence view", [(self.MODULE, self.state())])
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

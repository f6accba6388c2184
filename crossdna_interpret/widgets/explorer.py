"""The explorer: linked views of a sequence, its mutations and its strand exchange."""

from __future__ import annotations

import base64
import contextlib
import html
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.plot.drawing import shortened
from crossdna_interpret.results import Attribution
from crossdna_interpret.session import Session
from crossdna_interpret.widgets.drawn import DEFAULTS, SHARED, wild_letters
from crossdna_interpret.widgets.exchange_map import StrandExchangeMap
from crossdna_interpret.widgets.logo_view import LogoView
from crossdna_interpret.widgets.mutagenesis_map import MutagenesisMap
from crossdna_interpret.widgets.page import Page, page_of
from crossdna_interpret.widgets.view import View, display_with_picture

__all__ = ["Explorer"]

_PATIENCE = 8.0  # seconds to wait for results before a static picture is made
_METHODS = {"mutagenesis": "ism", "integrated gradients": "integrated_gradients", "gradient": "gradient"}
# Traits of a view that come from a result, not from the sequence or the user's choices.
_NUMBERS = ("forward", "reverse", "delta", "limit", "terms", "map", "cells", "received", "largest", "label")
_HINT = "Click a base, or point and type A C G T; Delete deletes; drag selects; Ctrl and the wheel zoom."


class Explorer(ipywidgets.VBox):
    """Edit a sequence and see the predictions of the model change.

    Args:
        session: the session to explore. It computes in a background thread and updates the views.
        examples: names of example sequences in the menu.

    Attributes:
        session: the session, with all results and actions for use from Python.
        logo, mutations, exchange: the views. `exchange` is empty for models without a bridge. It is hidden for models
            without separate strands.
    """

    def __init__(self, session: Session, examples: list[str] | None = None) -> None:
        self.session = session
        self._lock = threading.RLock()
        self._noted = session.sequence, session.target  # the note under the exchange is about these
        self.logo = LogoView(editable=True, hint=_HINT)
        self.mutations = MutagenesisMap(editable=True)
        hint = "" if "exchange" in session.stages else "This model has no bridge: its strands exchange nothing."
        self.exchange = StrandExchangeMap(editable=True, hint=hint)
        self.views: list[View] = [self.logo, self.mutations, *([self.exchange] if session.by_strand else [])]
        self._links = [
            ipywidgets.jslink((one, name), (other, name))
            for one, other in ((self.logo, self.mutations), (self.logo, self.exchange))
            for name in SHARED
        ]
        self._make_controls(examples or [])
        for view in self.views:
            view.on_action(self._asked)
        self._leave = session.listen(self._received)
        super().__init__([self._menu, self._paste, self._buttons, self._said, self._error, *self.views, self._taken])
        self._show_all()

    def _make_controls(self, examples: list[str]) -> None:
        session, wide = self.session, ipywidgets.Layout(width="auto")
        self.example = ipywidgets.Dropdown(options=["", *examples], description="example", layout=wide)
        names = list(session.model.targets)
        self.target = ipywidgets.Dropdown(options=names, value=session.target_name, description="target", layout=wide)
        split = ", by strand" if session.by_strand else ""
        methods = [(name if kind == "ism" else name + split, kind) for name, kind in _METHODS.items()]
        self.method = ipywidgets.Dropdown(options=methods, value=session.method, description="letters", layout=wide)
        self.palette = ipywidgets.Dropdown(
            options=[("colour-blind safe", "colorblind"), ("classic", "classic")], description="colours", layout=wide
        )
        self.text = ipywidgets.Textarea(
            placeholder="paste a sequence or one FASTA record", rows=2, layout=ipywidgets.Layout(width="70%")
        )
        self.load = ipywidgets.Button(description="Load", tooltip="explore what is pasted")
        self.undo = ipywidgets.Button(description="Undo", icon="undo")
        self.redo = ipywidgets.Button(description="Redo", icon="repeat")
        self.reset = ipywidgets.Button(description="Reset", tooltip="back to the sequence without edits")
        self.pin = ipywidgets.ToggleButton(description="Pin", tooltip="compare what follows with this sequence")
        self.flip = ipywidgets.ToggleButton(description="Other strand", tooltip="read the reverse complement")
        self.cancel = ipywidgets.Button(description="Cancel", tooltip="stop computing")
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout=ipywidgets.Layout(width="120px", visibility="hidden"))
        self._said, self._error, self._taken = (ipywidgets.HTML() for _ in range(3))
        self._menu = ipywidgets.HBox(
            [self.example, *([self.target] if len(names) > 1 else []), self.method, self.palette],
            layout=ipywidgets.Layout(flex_flow="row wrap"),
        )
        self._paste = ipywidgets.HBox([self.text, self.load])
        self._buttons = ipywidgets.HBox(
            [self.undo, self.redo, self.reset, self.pin, self.flip, self.cancel, self.bar],
            layout=ipywidgets.Layout(flex_flow="row wrap"),
        )
        self.undo.on_click(lambda _: session.undo())
        self.redo.on_click(lambda _: session.redo())
        self.reset.on_click(lambda _: session.reset())
        self.cancel.on_click(lambda _: session.cancel())
        self.load.on_click(lambda _: session.replace_sequence(self.text.value))
        self.example.observe(lambda change: self._set("example", change["new"] or None, session.load_example), "value")
        self.target.observe(lambda change: self._set("target_name", change["new"], session.set_target), "value")
        self.method.observe(lambda change: self._set("method", change["new"], session.set_method), "value")
        self.pin.observe(lambda change: self._pin(change["new"]), "value")
        self.logo.observe(lambda change: self._select(change["new"]), "selection")
        self._links.append(ipywidgets.jslink((self.flip, "value"), (self.logo, "flipped")))
        self.palette.observe(lambda change: setattr(self.logo, "palette", change["new"]), "value")
        self.exchange.observe(lambda change: self._ablate(self.exchange.selection), "side")

    # If a control already shows the value of the session, there is no request. This prevents an endless loop.

    def _set(self, name: str, value: Any, ask: Callable[[Any], object]) -> None:
        if value is not None and value != getattr(self.session, name):
            ask(value)

    def _pin(self, on: bool) -> None:
        if on != (self.session.pinned is not None):
            self.session.pin() if on else self.session.unpin()

    def _select(self, region: list[int]) -> None:
        if region != list(self.session.selection or ()):
            self.session.select(*region)

    # Requests from the screen

    def _asked(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "edit":
            start, end, string = (message.get(key) for key in ("start", "end", "string"))
            self.session.apply((start, end, string))  # type: ignore[arg-type]  # `apply` checks the values
        elif kind == "undo":
            self.session.undo()
        elif kind == "redo":
            self.session.redo()
        elif kind == "silence":
            start, end = message.get("start"), message.get("end")
            self._ablate([] if start is None or end is None else [start, end])

    def _ablate(self, region: list[int]) -> None:
        if len(region) != 2 or "exchange" not in self.session.stages:
            self.exchange.note = ""
            return
        try:
            start, end = region
            side: Any = self.exchange.side
            result = self.session.ablate(start, end, side=side)
        except (ValueError, TypeError) as error:
            self.exchange.note = str(error)
            return
        what = "receive" if self.exchange.side == "receiver" else "send"
        self.exchange.note = (
            f"Without what {start} to {end - 1} {what}: {result.reference:.3f} → {result.prediction:.3f} "
            f"({result.delta:+.3f}); with it alone {result.sufficiency:+.3f} above none."
        )

    # Display

    def _received(self, topic: str) -> None:
        with self._lock:
            if topic == "busy":
                self._show_busy()
            elif topic == "error":
                self._show_error()
            else:
                self._show_all()

    def _show_all(self) -> None:
        session, computed = self.session, self.session.results
        wild = wild_letters(session.wild_type, session.step.origin)
        self._show_error()
        if self._noted != (session.sequence, session.target):
            self._noted, self.exchange.note = (session.sequence, session.target), ""
        shown: list[tuple[Any, Any]] = [
            (self.logo, session.attribution), (self.mutations, computed.mutagenesis), (self.exchange, computed.exchange)
        ]  # fmt: skip
        for view, result in shown:
            if result is None:
                self._wait_with(view, wild)
            elif view.result is not result or view.stale or view.wild != wild:
                view.show(result, wild=wild, stale=False)
        self.undo.disabled, self.redo.disabled = not session.can_undo, not session.can_redo
        self.reset.disabled = not session.can_undo
        self.pin.value = session.pinned is not None
        self.target.value, self.method.value = session.target_name, session.method
        self.example.value = session.example if session.example in self.example.options else ""
        for view in self.views:
            view.selection = list(session.selection or ())
        self._said.value = self._prediction_html()
        self._taken.value = self._files_html()
        self._show_busy()

    def _wait_with(self, view: View, wild: str) -> None:
        """Show the new sequence at once. Keep the old values, greyed out, if the length is the same."""
        sequence = self.session.sequence
        with view.hold_sync():
            if sequence != view.sequence:
                view.result = None  # the old result is of another sequence
            if len(sequence) != len(view.sequence):
                for name in _NUMBERS:
                    if view.has_trait(name):
                        setattr(view, name, DEFAULTS[name])
            view.sequence, view.wild, view.stale = sequence, wild, True

    def _prediction_html(self) -> str:
        session, result = self.session, self.session.results
        # The warning about the training range appears with the sequence, before the results.
        problem = session.outside_training
        outside = "" if problem is None else (
            "<div class='cdi-outside' style='color:var(--jp-warn-color0,#8a4b00);font-weight:600'>"
            f"Outside of what the model was trained on: {html.escape(problem)}.</div>"
        )  # fmt: skip
        # Always reserve two lines, so that the views below do not move under the pointer.
        said = (
            "<div class='cdi-said' aria-live='polite' style='min-height:54px;line-height:22px;overflow-wrap:anywhere'>"
        )
        if session.prediction is None or result.reverse_prediction is None:
            return f"{said}<div style='min-height:30px'>predicting…</div>{outside}</div>"
        reverse = float(result.reverse_prediction[session.target])
        symmetric = result.symmetric is not None and result.symmetric[session.target]
        gap = "equal by construction" if symmetric else f"gap {reverse - session.prediction:+.3f}"
        parts = [
            f"<b>{html.escape(session.target_name)}</b> "
            f"<span class='cdi-prediction' style='font-size:1.35em;font-weight:700'>{session.prediction:.3f}</span>",
            f"reverse complement {reverse:.3f} ({gap})",
            f"{len(session.sequence)} bp",
            html.escape(session.step.label) + ("" if session.step.edit is None else " (0-based)"),
        ]
        if session.comparison is not None:
            parts.append(f"<span class='cdi-comparison'>{html.escape(str(session.comparison))}</span>")
        return f"{said}<div style='min-height:30px'>{' · '.join(parts)} {self._history_svg()}</div>{outside}</div>"

    def _history_svg(self) -> str:
        """Line plot of the predictions of all states up to the current one."""
        known = [self.session.prediction_of(step.sequence) for step in self.session.history]
        values = [value for value in known if value is not None][-40:]
        if len(values) < 2:
            return ""
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        step = 110 / (len(values) - 1)
        points = " ".join(f"{5 + i * step:.1f},{22 - 18 * (v - low) / span:.1f}" for i, v in enumerate(values))
        last = points.split()[-1].split(",")
        return (
            f"<svg width='120' height='26' role='img' aria-label='history of predictions, {low:.2f} to {high:.2f}' "
            f"style='vertical-align:middle'><polyline points='{points}' fill='none' stroke='currentColor'/>"
            f"<circle cx='{last[0]}' cy='{last[1]}' r='3' fill='#D55E00'/></svg>"
        )

    def _files_html(self) -> str:
        session = self.session
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in session.name)[:100] or "sequence"
        links = []
        for text, file, label in (
            (session.to_fasta(), f"{name}.fa", "FASTA"),
            (session.to_tsv(), f"{name}_history.tsv", "history (TSV)"),
            (session.to_python(), f"{name}_history.py", "as Python code"),
        ):
            encoded = base64.b64encode(text.encode()).decode("ascii")
            links.append(f"<a download='{file}' href='data:text/plain;base64,{encoded}'>{label}</a>")
        return f"<div>Take along: {' · '.join(links)}</div>"

    def _show_error(self) -> None:
        error = self.session.error
        style = "color:#B00020;font-weight:600"
        self._error.value = "" if error is None else f"<div role='alert' style='{style}'>{html.escape(error)}</div>"

    def _show_busy(self) -> None:
        busy = self.session.busy
        self.cancel.disabled = busy is None
        self.bar.layout.visibility = "hidden" if busy is None else "visible"
        if busy is not None:
            stage, done, total = busy
            self.bar.value, self.bar.tooltip = (done / total if total else 0.0), stage

    # Static output

    def figure(self) -> Figure | None:
        """All results in one figure, or None without results."""
        session, result = self.session, self.session.results
        if session.attribution is None or result.mutagenesis is None:
            return None
        rows = [2.0, 1.1] + ([2.6] if result.exchange is not None else [])
        figure = Figure(figsize=(14, 1.6 + 1.7 * sum(rows)), layout="constrained")
        axes = figure.subplots(len(rows), 1, height_ratios=rows)
        if isinstance(session.attribution, Attribution):
            plot.strand_logo(session.attribution, ax=axes[0])
        else:
            plot.logo(session.attribution, ax=axes[0])
        name, target = shortened(session.name) or "sequence", shortened(session.target_name)
        score = "" if session.prediction is None else f", predicted {target} {session.prediction:.3f}"
        title = f"{name} ({shortened(session.step.label)}){score}"
        axes[0].set_title(title, loc="left", fontsize=10, parse_math=False)
        plot.mutagenesis_map(result.mutagenesis, ax=axes[1])
        if result.exchange is not None:
            plot.exchange_arcs(result.exchange, ax=axes[2])
        return figure

    def _ipython_display_(self) -> None:
        with contextlib.suppress(TimeoutError):  # results of a long sequence come later, so there is no picture
            self.session.wait(_PATIENCE)
        text = f"Explorer of {self.session.name or 'a sequence'}; run the cell to touch it."
        display_with_picture(self._repr_mimebundle_(), self.figure(), text)

    def to_html(self, path: str | Path | None = None, *, timeout: float | None = 300.0) -> Page:
        """One HTML page with all results as linked views with hover and zoom. It works without kernel and network.

        Args:
            path: file to write, or None.
            timeout: seconds to wait for unfinished results. None waits without limit.

        Raises:
            TimeoutError: it took longer, and nothing was written. Call `session.cancel()` to write a page of the
                results so far.
        """
        self.session.wait(timeout)
        shared = {name: getattr(self.logo, name) for name in SHARED}  # in a notebook, the browser links them
        text = page_of(
            self.session.name or "Sequence explorer",
            [(view.MODULE, view.state() | shared) for view in self.views],
            self._said.value,
        )
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def close(self) -> None:
        """Stop the computation and close the explorer with all its widgets."""
        if self.comm is None or sys.is_finalizing():  # when Python exits, the widgets are already gone
            return
        self._leave()
        self.session.cancel()
        for widget in _widgets_of(self, self.target, *self.views, self.exchange, *self._links):
            if widget is not self:
                widget.close()
        super().close()


def _widgets_of(*widgets: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """Widgets and all widgets inside them: children, layouts, styles, ends of links."""
    reached: dict[int, ipywidgets.Widget] = {}
    pending = list(widgets)
    while pending:
        widget = pending.pop()
        if id(widget) in reached:
            continue
        reached[id(widget)] = widget
        for value in widget.trait_values().values():
            members = value if isinstance(value, (list, tuple)) else [value]
            pending += [each for each in members if isinstance(each, ipywidgets.Widget)]
    return list(reached.values())

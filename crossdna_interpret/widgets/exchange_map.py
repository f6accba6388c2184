"""The view of strand exchange."""

from __future__ import annotations

from typing import Any

import traitlets
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.results import DIRECTIONS, StrandExchange
from crossdna_interpret.widgets import drawn
from crossdna_interpret.widgets.view import View, module_text

__all__ = ["StrandExchangeMap"]


class StrandExchangeMap(View):
    """Arcs between the strands, or a heat map, of a result of `strand_exchange`.

    Args:
        result: strand exchange.
        traits: traits of `View` and: `mode` ("arcs" or "map"). `direction` ("both" or one). `source` (a source of the
            result, or "" for all). `threshold` (smallest drawn term, as a fraction of the largest). `side` (whether a
            selected region is "receiver" or "sender").
    """

    MODULE = "exchange_map"
    _esm = module_text(MODULE)

    terms = traitlets.Bytes().tag(sync=True)
    map = traitlets.Bytes().tag(sync=True)
    cells = traitlets.Int(0).tag(sync=True)
    received = traitlets.Bytes().tag(sync=True)
    largest = traitlets.Float(0.0).tag(sync=True)
    limit = traitlets.Float(0.0).tag(sync=True)
    sources = traitlets.List(traitlets.Unicode()).tag(sync=True)
    source = traitlets.Unicode("").tag(sync=True)
    direction = traitlets.Enum(["both", *DIRECTIONS], "both").tag(sync=True)
    mode = traitlets.Enum(["arcs", "map"], "arcs").tag(sync=True)
    side = traitlets.Enum(["receiver", "sender"], "receiver").tag(sync=True)
    threshold = traitlets.Float(0.3).tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)

    def __init__(self, result: StrandExchange | None = None, **traits: Any) -> None:
        super().__init__(result, **traits)
        self.observe(lambda change: self._change_source(), "source")

    def _change_source(self) -> None:
        if self.result is not None:
            self.show(self.result)

    def _drawn(self, result: StrandExchange) -> dict[str, Any]:
        return drawn.exchange_map(result, self.source)

    def figure(self) -> Figure | None:
        if self.result is None:
            return None
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        options: dict[str, Any] = {"source": self.source or None}
        if self.mode == "arcs":
            options |= {"direction": self.direction, "palette": self.palette}
            plot.exchange_arcs(self.result, ax=figure.add_subplot(), **options)
        else:
            for ax, direction in zip(figure.subplots(1, 2), DIRECTIONS, strict=True):
                plot.exchange_map(self.result, ax=ax, **(options | {"direction": direction}))
        return figure

"""What crosses between the strands."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.results import DIRECTIONS, StrandExchange
from crossdna_interpret.widgets.view import View, module_text, packed

__all__ = ["StrandExchangeMap"]

_MOST_TERMS = 1500  # arcs that are sent to the screen
_MOST_CELLS = 328  # of a map's side; longer sequences are summed into so many


class StrandExchangeMap(View):
    """Arcs between the strands, or a heat map, of what `strand_exchange` found.

    Args:
        result: strand exchange.
        traits: of `View`, and `mode` ("arcs" or "map"), `direction` ("both" or one), `source` (one of the result's, or
            "" for all), `threshold` (smallest term drawn, as a share of the largest), `side` (what a brushed region
            does: "receiver" or "sender").
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
        super().__init__(**traits)
        self.result: StrandExchange | None = None
        self.observe(lambda change: self._fill(), "source")
        if result is not None:
            self.show(result)

    def show(self, result: StrandExchange, **traits: Any) -> None:
        """Draw a result, and set traits together with it."""
        self.result = result
        with self.hold_sync():
            self.sequence = result.sequence
            self.sources = list(result.sources)
            self._fill()
            for name, value in traits.items():
                setattr(self, name, value)

    def _fill(self) -> None:
        x = self.result
        if x is None:
            return
        terms = x.by_source[x.sources.index(self.source)] if self.source in x.sources else x.contributions
        length = len(x.sequence)
        flat = np.abs(terms).ravel()
        count = min(_MOST_TERMS, len(flat))
        chosen = np.argpartition(flat, len(flat) - count)[len(flat) - count :]
        chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
        way, receiver, sender = np.unravel_index(chosen, terms.shape)
        cells = min(length, _MOST_CELLS)
        edges = np.arange(cells) * length // cells
        summed = np.add.reduceat(np.add.reduceat(terms, edges, axis=1), edges, axis=2)
        with self.hold_sync():
            self.terms = packed(np.stack([way, receiver, sender, terms.ravel()[chosen]], axis=1))
            self.map = packed(summed)
            self.cells = cells
            self.largest = float(flat.max())
            self.limit = float(np.quantile(np.abs(summed), 0.999)) or float(np.abs(summed).max()) or 1.0
            self.received = packed(np.concatenate([x.received, x.sent]))
            mirrored = "; senders lie at the mirror locus" if x.mirrored else ""
            self.label = (
                f"exchange adds {x.effects.total:+.3f} to {x.target} "
                f"(interaction of directions {x.effects.interaction:+.3f}){mirrored}"
            )

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

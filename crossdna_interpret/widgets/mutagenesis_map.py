"""The view of mutagenesis."""

from __future__ import annotations

from typing import Any

import traitlets
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.results import Mutagenesis
from crossdna_interpret.widgets import drawn
from crossdna_interpret.widgets.view import View, module_text

__all__ = ["MutagenesisMap"]


class MutagenesisMap(View):
    """A heat map of a whole sequence. If `editable`, a click on a cell makes the substitution.

    Args:
        result: mutagenesis of a whole sequence.
        traits: traits of `View`.

    Raises:
        ValueError: the mutagenesis is not of the whole sequence.
    """

    MODULE = "mutagenesis_map"
    _esm = module_text(MODULE)

    delta = traitlets.Bytes().tag(sync=True)
    limit = traitlets.Float(0.0).tag(sync=True)

    def _drawn(self, result: Mutagenesis) -> dict[str, Any]:
        return drawn.mutagenesis_map(result)

    def figure(self) -> Figure | None:
        if self.result is None:
            return None
        figure = Figure(figsize=(12, 1.9), layout="constrained")
        plot.mutagenesis_map(self.result, ax=figure.add_subplot())
        return figure

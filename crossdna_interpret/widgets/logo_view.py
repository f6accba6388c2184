"""The view of attribution logos, by strand."""

from __future__ import annotations

from typing import Any

import traitlets
from matplotlib.figure import Figure

from crossdna_interpret import plot
from crossdna_interpret.results import Attribution, Mutagenesis
from crossdna_interpret.widgets import drawn
from crossdna_interpret.widgets.view import View, module_text

__all__ = ["LogoView"]


class LogoView(View):
    """A logo that can be hovered over, zoomed and, where it is `editable`, edited by click and by key.

    Args:
        result: an attribution, which is split by strand, or mutagenesis of a whole sequence.
        brackets: motifs to name above: dicts with `start`, `end`, `name` and `strand` ("+", "-" or "").
        traits: of `View`.

    Raises:
        ValueError: mutagenesis of a part only.
    """

    MODULE = "logo_view"
    _esm = module_text(MODULE)

    forward = traitlets.Bytes().tag(sync=True)
    reverse = traitlets.Bytes().tag(sync=True)
    brackets = traitlets.List(traitlets.Dict()).tag(sync=True)

    def _drawn(self, result: Attribution | Mutagenesis) -> dict[str, Any]:
        return drawn.logo_view(result)

    def figure(self) -> Figure | None:
        if self.result is None:
            return None
        figure = Figure(figsize=(12, 3.2), layout="constrained")
        palette: Any = self.palette
        if isinstance(self.result, Attribution):
            plot.strand_logo(self.result, ax=figure.add_subplot(), palette=palette)
        else:
            plot.logo(self.result, ax=figure.add_subplot(), palette=palette)
        return figure

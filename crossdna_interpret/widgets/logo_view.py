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
    """A logo with hover and zoom. If `editable`, clicks and keys edit the sequence.

    Args:
        result: an attribution split by strand, or mutagenesis of a whole sequence.
        brackets: motif names above the logo: dicts with `start`, `end`, `name` and `strand` ("+", "-" or "").
        traits: traits of `View`.

    Raises:
        ValueError: the mutagenesis is not of the whole sequence.
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

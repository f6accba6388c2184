"""Both strands as letters, as tall as they matter."""

from __future__ import annotations

from collections.abc import Sequence
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

    def __init__(
        self, result: Attribution | Mutagenesis | None = None, *, brackets: Sequence[dict[str, Any]] = (), **traits: Any
    ) -> None:
        super().__init__(brackets=list(brackets), **traits)
        self.result: Attribution | Mutagenesis | None = None
        if result is not None:
            self.show(result)

    def show(self, result: Attribution | Mutagenesis, **traits: Any) -> None:
        """Draw a result, and set traits together with it."""
        state = drawn.logo_view(result)
        self.result = result
        with self.hold_sync():
            for name, value in (state | traits).items():
                setattr(self, name, value)

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

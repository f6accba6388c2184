"""Scatter plots of predicted and measured effects."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from crossdna_interpret.plot.drawing import INK, axes_of, open_frame
from crossdna_interpret.plot.labels import x_label
from crossdna_interpret.results import MeasuredComparison
from crossdna_interpret.results.pictures import draws

__all__ = ["measured_scatter"]


@draws(MeasuredComparison)
def measured_scatter(
    result: MeasuredComparison, ax: Axes | None = None, *, color: str = "#0072B2", labels: int = 0
) -> Axes:
    """Draw the measured effect of each edit against the predicted one.

    Args:
        result: a result of `compare_with_measured`.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the points.
        labels: number of edits to name, those with the largest measured effects.

    Returns:
        The Axes. Each axis has its own scale, because the units can differ.
    """
    ax = axes_of(ax, 4.2, 3.8)
    x, y = result.table["predicted"].to_numpy(), result.table["measured"].to_numpy()
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.axvline(0, color=INK, linewidth=0.6)
    ax.plot(x, y, linestyle="", marker="o", markersize=3.5, alpha=0.6, color=color)
    for at in np.argsort(-np.abs(y), kind="stable")[:labels]:
        row = result.table.iloc[at]
        name = f"{row['ref'] or '+'}{row['start']}{row['alt'] or '-'}"
        ax.annotate(name, (x[at], y[at]), xytext=(4, 3), textcoords="offset points", fontsize=7.5)
    x_label(ax, f"predicted change in {result.target}")
    ax.set_ylabel("measured effect")
    ax.set_title(f"r = {result.r:.2f} ({result.low:.2f} to {result.high:.2f}), n = {len(result)}", fontsize=9)
    open_frame(ax)
    return ax

"""Scatter plots of both orientations."""

from __future__ import annotations

from matplotlib.axes import Axes

from crossdna_interpret.plot.drawing import INK, axes_of
from crossdna_interpret.plot.labels import x_label, y_label
from crossdna_interpret.results import Orientation
from crossdna_interpret.results.pictures import draws

__all__ = ["orientation_scatter"]


@draws(Orientation)
def orientation_scatter(result: Orientation, ax: Axes | None = None, *, color: str = "#0072B2") -> Axes:
    """Draw the prediction for each reverse complement against the prediction for the sequence.

    Args:
        result: predictions of both orientations, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the points.

    Returns:
        The Axes. On the line, both predictions are equal.
    """
    ax = axes_of(ax, 4.2, 4.2)
    low = float(min(result.forward.min(), result.reverse.min()))
    high = float(max(result.forward.max(), result.reverse.max()))
    pad = 0.05 * ((high - low) or 1.0)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=INK, linewidth=0.8)
    ax.plot(result.forward, result.reverse, linestyle="", marker="o", markersize=3.5, alpha=0.6, color=color)
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(low - pad, high + pad)
    ax.set_aspect("equal")
    x_label(ax, f"{result.target}, sequence as given")
    y_label(ax, f"{result.target}, reverse complement")
    r, low_r, high_r = result.table.loc[0, ["value", "low", "high"]]
    ax.set_title(f"r = {r:.3f} ({low_r:.3f} to {high_r:.3f}), n = {len(result.sequences)}", fontsize=9)
    return ax

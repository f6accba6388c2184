"""Plots of ablated and patched messages."""

from __future__ import annotations

from matplotlib.axes import Axes

from crossdna_interpret.plot.drawing import INK, axes_of, open_frame
from crossdna_interpret.plot.labels import title, y_label
from crossdna_interpret.results import ExchangeAblation, ExchangePatch
from crossdna_interpret.results.pictures import draws

__all__ = ["intervention_bars"]


@draws(ExchangeAblation, ExchangePatch)
def intervention_bars(
    result: ExchangeAblation | ExchangePatch, ax: Axes | None = None, *, color: str = "#0072B2"
) -> Axes:
    """Draw the predictions with and without the changed messages.

    Args:
        result: an ablation, with its four predictions, or a patch, with those of both sequences and of the patch.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the bars of changed messages.

    Returns:
        The Axes, in the units of the target.
    """
    ax = axes_of(ax, 4.6, 3.0)
    if isinstance(result, ExchangeAblation):
        bars = {
            "all\nmessages": result.reference,
            "without\nthese": result.prediction,
            "only\nthese": result.only,
            "none": result.none,
        }
        colors = [INK, color, color, INK]
        heading = f"necessity {result.necessity:+.3g}, sufficiency {result.sufficiency:+.3g}"
    else:
        bars = {
            "own\nmessages": result.reference,
            "patched": result.prediction,
            "the other\nsequence": result.source_prediction,
        }
        colors = [INK, color, INK]
        heading = f"patching changes {result.delta:+.3g}, recovers {result.recovered:.0%} of the difference"
    drawn = ax.bar(list(bars), list(bars.values()), color=colors, width=0.6)
    ax.bar_label(drawn, [f"{value:.3f}" for value in bars.values()], fontsize=8, padding=2)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.margins(y=0.15)
    open_frame(ax)
    y_label(ax, f"predicted\n{result.target}")
    title(ax, heading, 9)
    return ax

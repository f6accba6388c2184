"""Plots of predicted beside measured changes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from crossdna_interpret.plot.drawing import INK, axes_of, open_frame
from crossdna_interpret.plot.edits import mutagenesis_map
from crossdna_interpret.plot.labels import title, x_label, y_label
from crossdna_interpret.results import MutationIntervals, TruthReport
from crossdna_interpret.results.pictures import draws

__all__ = ["certain_effects", "change_calibration"]

_FEW = 2000  # points up to which each one is drawn as a dot


@draws(TruthReport)
def change_calibration(result: TruthReport, ax: Axes | None = None, *, bins: int = 12, color: str = "#0072B2") -> Axes:
    """Draw measured against predicted changes, and the mean measured change in bins of the predicted one.

    Args:
        result: a truth report.
        ax: Axes to draw on. The default is a new figure.
        bins: number of bins, each with equally many changes.
        color: colour of the changes.

    Returns:
        The Axes. Both axes are in units of the target. On the dashed line, prediction and measurement are equal. The
        bars at the means are two standard errors, from a jackknife over families. Each change is drawn in both
        directions.
    """
    ax = axes_of(ax, 4.4, 4.0)
    x, y = (np.concatenate([change, -change]) for change in (result.table["predicted"], result.table["measured"]))
    if len(x) <= _FEW:
        ax.plot(x, y, linestyle="", marker="o", markersize=2.5, alpha=0.35, color=color, markeredgewidth=0)
    else:
        ax.hexbin(x, y, gridsize=60, bins="log", cmap="Blues", linewidths=0)
    end = 1.05 * (float(np.abs(x).max()) or 1.0)
    ax.plot([-end, end], [-end, end], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set_xlim(-end, end)
    means = result.calibration(bins)
    ax.errorbar(
        means["predicted"], means["measured"], yerr=2 * means["error"], color="#D55E00", marker="o", markersize=4,
        linewidth=1.2, capsize=2,
    )  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.5)
    ax.axvline(0, color=INK, linewidth=0.5)
    summary = result.summary()
    x_label(ax, f"predicted change in {result.target}")
    y_label(ax, f"measured change in {result.measured}")
    title(
        ax,
        f"r = {summary['r_changes']:.2f}, slope {summary['slope']:.2f}, n = {len(result):,}\n"
        f"{result.level:.0%} intervals hold {result.coverage:.0%}",
        9,
    )
    open_frame(ax)
    return ax


@draws(MutationIntervals)
def certain_effects(
    result: MutationIntervals, ax: Axes | None = None, *, cmap: str = "RdBu_r", limit: float | None = None
) -> Axes:
    """Draw a heat map of every substitution. Effects whose interval holds 0 are pale.

    Args:
        result: mutagenesis with intervals.
        ax: Axes to draw on. The default is a new figure.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the largest absolute change.

    Returns:
        The Axes. Dots mark the bases of the sequence.
    """
    before = 0 if ax is None else len(ax.images)
    ax = mutagenesis_map(result.mutagenesis, ax, cmap=cmap, limit=limit)
    ax.images[before].set_alpha(np.where(result.certain, 1.0, 0.25).T)
    share = result.certain.sum() / max(1, (result.low != result.high).sum())
    title(ax, f"{share:.0%} of the effects have a known sign at the {result.level:.0%} level; the others are pale", 9)
    return ax

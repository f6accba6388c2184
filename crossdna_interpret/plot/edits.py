"""Plots of mutagenesis, scans and pairs of mutations."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from crossdna_interpret.dna import alphabet
from crossdna_interpret.plot.drawing import INK, axes_of, bound_of, dress, new_axes
from crossdna_interpret.plot.labels import color_scale, y_label
from crossdna_interpret.results import EditScan, EditScores, ExchangeMutagenesis, Mutagenesis, PairwiseMutagenesis
from crossdna_interpret.results.pictures import draws

__all__ = ["edit_effects", "interaction_map", "mutagenesis_map"]


@draws(ExchangeMutagenesis, Mutagenesis)
def mutagenesis_map(
    result: Mutagenesis | ExchangeMutagenesis,
    ax: Axes | None = None,
    *,
    cmap: str = "RdBu_r",
    limit: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw a heat map of every substitution. Rows are bases, and colours are changes in prediction.

    Args:
        result: mutagenesis of the prediction or of the effect of exchange. The colours are its `delta`, in the units of
            the target.
        ax: Axes to draw on. The default is a new figure.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the largest absolute change.
        colorbar: whether to add the colour scale.

    Returns:
        The Axes. Dots mark the bases of the sequence.

    Raises:
        ValueError: `limit` is not above 0.
    """
    delta = result.delta
    bound = bound_of(delta, limit)
    ax = new_axes(ax, len(delta), 1.9)
    extent = (result.start - 0.5, result.end - 0.5, 3.5, -0.5)
    image = ax.imshow(
        delta.T, cmap=cmap, norm=TwoSlopeNorm(0.0, -bound, bound), extent=extent, aspect="auto", interpolation="nearest"
    )
    ids = alphabet.encode(result.sequence)[result.start : result.end]
    known = np.flatnonzero(ids != alphabet.N_ID)
    ax.plot(known + result.start, ids[known], linestyle="", marker=".", markersize=2.5, color=INK)
    ax.set_yticks(range(4), list(alphabet.BASES))
    dress(ax, result.start, result.end)
    ax.set_ylabel("mutated to")
    if colorbar:
        through = "\nthrough exchange" if isinstance(result, ExchangeMutagenesis) else ""
        color_scale(ax, image, f"change in\n{result.target}{through}", pad=0.01, aspect=12)
    return ax


@draws(EditScan, EditScores)
def edit_effects(result: EditScores | EditScan, ax: Axes | None = None, *, color: str = "#0072B2") -> Axes:
    """Draw the change that each edit causes, at the middle of the replaced span.

    Args:
        result: scores of edits, or a scan. The heights are its `delta`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the stems, or of the line for a scan.

    Returns:
        The Axes.
    """
    scores = result.scores if isinstance(result, EditScan) else result
    middle = np.array([(edit.start + edit.end - 1) / 2 for edit in scores.edits])
    ax = new_axes(ax, len(scores.sequence), 2.2)
    ax.axhline(0, color=INK, linewidth=0.6)
    if isinstance(result, EditScan):
        order = np.argsort(middle)
        ax.fill_between(middle[order], 0, result.delta[order], color=color, alpha=0.25, linewidth=0)
        ax.plot(middle[order], result.delta[order], color=color, linewidth=1.2)
        what = f"{result.width} bp deleted" if result.kind == "deletion" else f"{_short(result.insert)} inserted"
    else:
        ax.vlines(middle, 0, scores.delta, color=color, linewidth=0.8)
        ax.plot(middle, scores.delta, linestyle="", marker="o", markersize=3, color=color)
        what = f"{len(scores.edits)} edit{'' if len(scores.edits) == 1 else 's'}"
    dress(ax, 0, len(scores.sequence))
    y_label(ax, f"change in\n{result.target}")
    kept = "length unchanged" if scores.flanks is None else "window kept by flanks"
    ax.set_title(f"{what}, {kept if result.window == 'kept' else 'length changes'}", fontsize=9)
    return ax


def _short(bases: str) -> str:
    return bases if len(bases) <= 12 else f"{bases[:9]}… ({len(bases)} bp)"


@draws(PairwiseMutagenesis)
def interaction_map(
    result: PairwiseMutagenesis,
    ax: Axes | None = None,
    *,
    cmap: str = "PuOr_r",
    limit: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw a heat map of the strongest interaction of each pair of positions.

    Args:
        result: pairs of substitutions. The colours are `strongest`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the largest absolute value.
        colorbar: whether to add the colour scale.

    Returns:
        The Axes. x is the first position of a pair, y the second. Pairs that were not scored are blank.

    Raises:
        ValueError: `limit` is not above 0.
    """
    first, second = (np.unique(result.pairs[:, side]) for side in (0, 1))
    shown = result.matrix[np.ix_(second, first)]
    ax = axes_of(ax, 2.0 + 0.22 * len(first), 1.6 + 0.22 * len(second))
    bound = bound_of(shown, limit)
    image = ax.imshow(shown, cmap=cmap, norm=TwoSlopeNorm(0.0, -bound, bound), origin="lower", interpolation="nearest")
    for axis, rows in ((ax.xaxis, first), (ax.yaxis, second)):
        every = max(1, -(-len(rows) // 30))
        places = np.arange(0, len(rows), every)
        labels = [f"{result.sequence[result.positions[rows[i]]]}{result.positions[rows[i]]}" for i in places]
        axis.set_ticks(places, labels)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(labelsize=7)
    ax.set_xlabel("first position")
    ax.set_ylabel("second position")
    if colorbar:
        color_scale(ax, image, f"strongest interaction in\n{result.target}", pad=0.02, shrink=0.7)
    return ax

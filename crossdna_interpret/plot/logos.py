"""Attribution logos."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from crossdna_interpret.plot.drawing import INK, Palette, draw_letters, dress, new_axes, part_of, two_strands
from crossdna_interpret.plot.labels import y_label
from crossdna_interpret.results import Attribution, ExchangeMutagenesis, Mutagenesis
from crossdna_interpret.results.pictures import draws

__all__ = ["logo", "strand_logo"]


def logo(
    result: Attribution | Mutagenesis | ExchangeMutagenesis,
    ax: Axes | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw the sequence as a logo. Letters above the line increase the prediction.

    If the result is a mean over both orientations, thin bars connect the values of the two.

    Args:
        result: a result whose `importance` gives the heights, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        start, end: part of the sequence to draw, 0-based half-open. The default is all.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes.

    Raises:
        ValueError: an empty part or a part outside the sequence, or an unknown palette.
    """
    offset, stop = (0, len(result.sequence)) if isinstance(result, Attribution) else (result.start, result.end)
    part = part_of(len(result.sequence), start, end)
    if part.start >= stop or part.stop <= offset:
        raise ValueError(f"`start` and `end` must overlap the result's window, {offset} to {stop}.")
    part = slice(max(part.start, offset), min(part.stop, stop))
    heights = result.importance[part.start - offset : part.stop - offset]
    ax = new_axes(ax, len(heights), 2.4)
    draw_letters(ax, result.sequence[part], heights, x=np.arange(part.start, part.stop), baseline=0.0, palette=palette)
    ax.axhline(0, color=INK, linewidth=0.6)
    dress(ax, part.start, part.stop)
    shown = [heights]
    if not isinstance(result, ExchangeMutagenesis) and result.orientations is not None:
        one, other = (each.importance[part.start - offset : part.stop - offset] for each in result.orientations)
        shown += [one, other]
        ax.vlines(np.arange(part.start, part.stop), one, other, color=INK, linewidth=0.8, alpha=0.7)
    low, high = min(0.0, *(values.min() for values in shown)), max(0.0, *(values.max() for values in shown))
    pad = 0.05 * ((high - low) or 1.0)
    ax.set_ylim(low - pad, high + pad)
    kind = "attribution" if isinstance(result, Attribution) else "mutagenesis"
    if isinstance(result, ExchangeMutagenesis):
        kind = "mutagenesis\nof exchange"
    y_label(ax, f"{kind},\n{result.target}")
    return ax


@draws(Attribution)
def strand_logo(
    result: Attribution,
    ax: Axes | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw both strands as two tracks: contributions through the forward path, and of complements through the reverse.

    The upper track reads 5' to 3' from left to right, the lower one from right to left. Both have the same scale. An
    attribution that is not split by strand is drawn by `logo` as one track.

    Args:
        result: an attribution.
        ax: Axes to draw on. The default is a new figure.
        start, end: part of the sequence to draw, 0-based half-open. The default is all.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes.

    Raises:
        ValueError: an empty part or a part outside the sequence, or an unknown palette.
    """
    if not result.by_strand:
        return logo(result, ax, start=start, end=end, palette=palette)
    part = part_of(len(result.sequence), start, end)
    forward, reverse = result.forward.sum(axis=1), result.reverse.sum(axis=1)
    ylabel = f"attribution,\n{result.target}"
    return two_strands(result.sequence, forward, reverse, part, ax, ylabel=ylabel, palette=palette)

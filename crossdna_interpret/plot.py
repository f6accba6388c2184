"""From a result to matplotlib Axes. Nothing here computes a score, and no global matplotlib state is changed."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from crossdna_interpret import alphabet
from crossdna_interpret.results import Attribution, EditScan, EditScores, Mutagenesis, PairwiseMutagenesis

__all__ = [
    "PALETTES",
    "draw_letters",
    "edit_effects",
    "interaction_map",
    "logo",
    "mutagenesis_map",
    "strand_logo",
]

Palette = Literal["colorblind", "classic"]

# "colorblind" is from Okabe and Ito's palette; "classic" is what most logo software has drawn since 1990.
PALETTES: dict[str, dict[str, str]] = {
    "colorblind": {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00", "N": "#9A9A9A"},
    "classic": {"A": "#109648", "C": "#255C99", "G": "#F7B32B", "T": "#D62839", "N": "#9A9A9A"},
}
_INK = "#333333"


@functools.cache
def _glyph(letter: str) -> Path:
    """Outline of a letter, stretched to the unit square."""
    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()  # of the curves: control points and closing vertices may lie outside
    return Path((np.asarray(outline.vertices) - box.min) / box.size, outline.codes)


def draw_letters(
    ax: Axes, letters: str, heights: np.ndarray, *, x: np.ndarray, baseline: float, palette: Palette
) -> None:
    """Draw one letter for each position, standing on (or hanging from) a baseline.

    All letters of one base are a single compound path: a thousand letters take milliseconds.

    Args:
        ax: where to draw.
        letters: L letters.
        heights: (L,) in data units; a negative one hangs upside down.
        x: (L,) centre of each letter.
        baseline: of the letters, in data units.
        palette: name of a palette.
    """
    colors = _colors(palette)
    for letter in sorted(set(letters)):
        here = np.flatnonzero((np.array(list(letters)) == letter) & (heights != 0))
        if not here.size:
            continue
        glyph = _glyph(letter)
        scale = np.stack([np.full(len(here), 0.92), heights[here]], axis=1)
        origin = np.stack([x[here] - 0.46, np.full(len(here), baseline)], axis=1)
        vertices = (np.asarray(glyph.vertices) * scale[:, None] + origin[:, None]).reshape(-1, 2)
        codes = np.tile(np.asarray(glyph.codes), len(here))
        ax.add_patch(PathPatch(Path(vertices, codes), facecolor=colors[letter], linewidth=0))


def _colors(palette: str) -> dict[str, str]:
    if palette not in PALETTES:
        raise ValueError(f"`palette` must be one of {list(PALETTES)}, but got {palette!r}.")
    return PALETTES[palette]


def _axes(ax: Axes | None, positions: int, height: float) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, new = plt.subplots(figsize=(min(max(6.0, 0.085 * positions + 1.5), 60.0), height), layout="constrained")
    return new


def _window(length: int, start: int, end: int | None) -> slice:
    stop = length if end is None else end
    if not 0 <= start < stop <= length:
        raise ValueError(f"`start` and `end` must satisfy 0 <= start < end <= {length}, but got {start} and {stop}.")
    return slice(start, stop)


def _dress(ax: Axes, first: int, last: int) -> None:
    ax.set_xlim(first - 0.6, last - 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=18, integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("position (bp; the first base is 0)")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def logo(
    result: Attribution | Mutagenesis,
    ax: Axes | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw the sequence with each base as tall as it matters: above the line it raises the prediction.

    Args:
        result: its `importance` gives the heights, in the units of the target.
        ax: where to draw; a new figure if not given.
        start, end: part of the sequence to draw, 0-based half-open.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes.

    Raises:
        ValueError: an empty or outlying part, or an unknown palette.
    """
    offset = result.start if isinstance(result, Mutagenesis) else 0
    stop = result.end if isinstance(result, Mutagenesis) else len(result.sequence)
    part = _window(len(result.sequence), max(start, offset), stop if end is None else min(end, stop))
    heights = result.importance[part.start - offset : part.stop - offset]
    ax = _axes(ax, len(heights), 2.4)
    draw_letters(ax, result.sequence[part], heights, x=np.arange(part.start, part.stop), baseline=0.0, palette=palette)
    ax.axhline(0, color=_INK, linewidth=0.6)
    _dress(ax, part.start, part.stop)
    low, high = min(heights.min(), 0.0), max(heights.max(), 0.0)
    pad = 0.05 * ((high - low) or 1.0)
    ax.set_ylim(low - pad, high + pad)
    kind = "mutagenesis" if isinstance(result, Mutagenesis) else "attribution"
    ax.set_ylabel(f"{kind},\n{result.target}")
    return ax


def strand_logo(
    result: Attribution,
    ax: Axes | None = None,
    *,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw both strands as two tracks: what each base adds by the forward path, and its complement by the other.

    The upper track reads 5' to 3' from left to right, the lower one from right to left. Both have the same scale.

    Args:
        result: an attribution, which is split by strand path.
        ax: where to draw; a new figure if not given.
        start, end: part of the sequence to draw, 0-based half-open.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes.

    Raises:
        ValueError: an empty or outlying part, or an unknown palette.
    """
    part = _window(len(result.sequence), start, end)
    letters = result.sequence[part]
    opposite = alphabet.decode(alphabet.complement_ids(alphabet.encode(letters)))
    forward, reverse = result.forward[part].sum(axis=1), result.reverse[part].sum(axis=1)
    low = min(forward.min(), reverse.min(), 0.0)
    high = max(forward.max(), reverse.max(), 0.0)
    gap = 0.12 * ((high - low) or 1.0)
    baselines = {"forward": gap - low, "reverse": -gap - high}
    ax = _axes(ax, len(letters), 3.4)
    x = np.arange(part.start, part.stop)
    for strand, bases, heights in (("forward", letters, forward), ("reverse", opposite, reverse)):
        draw_letters(ax, bases, heights, x=x, baseline=baselines[strand], palette=palette)
        ax.axhline(baselines[strand], color=_INK, linewidth=0.6)
    ax.axhline(0, color=_INK, linewidth=0.6, linestyle=(0, (1, 3)))
    _dress(ax, part.start, part.stop)
    ax.set_ylim(-gap - (high - low) - gap / 2, gap + (high - low) + gap / 2)
    values = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    values = values[(values >= low) & (values <= high)]
    ax.set_yticks([base + value for base in baselines.values() for value in values])
    ax.set_yticklabels([f"{value:.3g}" for _ in baselines for value in values])
    ax.set_ylabel(f"attribution,\n{result.target}")
    ends = {"forward": ("5′", "3′"), "reverse": ("3′", "5′")}
    margin = 0.018 * len(letters)  # room for 5′ and 3′ inside the frame, clear of the tick labels
    ax.set_xlim(part.start - 0.6 - margin, part.stop - 0.4 + margin)
    for strand, baseline in baselines.items():
        for place, text in zip((part.start - 0.6, part.stop - 0.4), ends[strand], strict=True):
            align = "right" if place < part.start else "left"
            ax.text(place, baseline, text, ha=align, va="bottom", color=_INK, fontsize=8)
        ax.text(
            1.0, baseline + high, f"{strand} strand", ha="right", va="bottom", color=_INK, fontsize=8,
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    return ax


def mutagenesis_map(
    result: Mutagenesis,
    ax: Axes | None = None,
    *,
    cmap: str = "RdBu_r",
    limit: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw a heat map of every substitution: one row for each base, colour for the change in prediction.

    Args:
        result: in-silico mutagenesis; its `delta` gives the colours, in the units of the target.
        ax: where to draw; a new figure if not given.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale; the largest absolute change if not given.
        colorbar: whether to add the scale.

    Returns:
        The Axes. Dots mark the sequence's own bases.

    Raises:
        ValueError: `limit` not above 0.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"`limit` must be above 0, but got {limit!r}.")
    delta = result.delta
    bound = limit or float(np.abs(delta).max()) or 1.0
    ax = _axes(ax, len(delta), 1.9)
    extent = (result.start - 0.5, result.end - 0.5, 3.5, -0.5)
    image = ax.imshow(
        delta.T, cmap=cmap, norm=TwoSlopeNorm(0.0, -bound, bound), extent=extent, aspect="auto", interpolation="nearest"
    )
    ids = alphabet.encode(result.sequence)[result.start : result.end]
    known = np.flatnonzero(ids != alphabet.N_ID)
    ax.plot(known + result.start, ids[known], linestyle="", marker=".", markersize=2.5, color=_INK)
    ax.set_yticks(range(4), list(alphabet.BASES))
    _dress(ax, result.start, result.end)
    ax.set_ylabel("mutated to")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=f"change in\n{result.target}", pad=0.01, aspect=12)
    return ax


def edit_effects(result: EditScores | EditScan, ax: Axes | None = None, *, color: str = "#0072B2") -> Axes:
    """Draw the change that each edit makes, at the middle of the stretch that it replaces.

    Args:
        result: scores of edits, or a scan; its `delta` gives the heights, in the units of the target.
        ax: where to draw; a new figure if not given.
        color: of the stems, or of a scan's line.

    Returns:
        The Axes.
    """
    scores = result.scores if isinstance(result, EditScan) else result
    middle = np.array([(edit.start + edit.end - 1) / 2 for edit in scores.edits])
    ax = _axes(ax, len(scores.sequence), 2.2)
    ax.axhline(0, color=_INK, linewidth=0.6)
    if isinstance(result, EditScan):
        order = np.argsort(middle)
        ax.fill_between(middle[order], 0, result.delta[order], color=color, alpha=0.25, linewidth=0)
        ax.plot(middle[order], result.delta[order], color=color, linewidth=1.2)
        what = f"{result.width} bp deleted" if result.kind == "deletion" else f"{_short(result.insert)} inserted"
    else:
        ax.vlines(middle, 0, scores.delta, color=color, linewidth=0.8)
        ax.plot(middle, scores.delta, linestyle="", marker="o", markersize=3, color=color)
        what = f"{len(scores.edits)} edits"
    _dress(ax, 0, len(scores.sequence))
    ax.set_ylabel(f"change in\n{result.target}")
    ax.set_title(f"{what}, {'window kept by flanks' if result.window == 'kept' else 'length changes'}", fontsize=9)
    return ax


def _short(bases: str) -> str:
    return bases if len(bases) <= 12 else f"{bases[:9]}… ({len(bases)} bp)"


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
        result: pairs of substitutions; `strongest` gives the colours, in the units of the target.
        ax: where to draw; a new figure if not given.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale; the largest size if not given.
        colorbar: whether to add the scale.

    Returns:
        The Axes: the first position of a pair along x, the second along y. Pairs that were not asked about are blank.

    Raises:
        ValueError: `limit` not above 0.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"`limit` must be above 0, but got {limit!r}.")
    first, second = (np.unique(result.pairs[:, side]) for side in (0, 1))
    shown = result.matrix[np.ix_(second, first)]
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(2.0 + 0.22 * len(first), 1.6 + 0.22 * len(second)), layout="constrained")
    bound = limit or float(np.nanmax(np.abs(shown))) or 1.0
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
        ax.figure.colorbar(image, ax=ax, label=f"strongest interaction in\n{result.target}", pad=0.02, shrink=0.7)
    return ax

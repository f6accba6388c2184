"""Shared drawing: letters, colours and axes of sequences."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from crossdna_interpret.dna import alphabet
from crossdna_interpret.plot.labels import y_label

__all__ = [
    "INK",
    "PALETTES",
    "Palette",
    "axes_of",
    "bound_of",
    "colors_of",
    "draw_letters",
    "dress",
    "new_axes",
    "open_frame",
    "part_of",
    "shortened",
    "two_strands",
]

Palette = Literal["colorblind", "classic"]

# "colorblind" is from the palette of Okabe and Ito. "classic" is the palette of most logo software since 1990.
PALETTES: dict[str, dict[str, str]] = {
    "colorblind": {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00", "N": "#9A9A9A"},
    "classic": {"A": "#109648", "C": "#255C99", "G": "#F7B32B", "T": "#D62839", "N": "#9A9A9A"},
}
INK = "#333333"


@functools.cache
def _glyph(letter: str) -> Path:
    """Outline of a letter, stretched to the unit square."""
    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()  # extents of the curves. Control points and closing vertices may be outside
    return Path((np.asarray(outline.vertices) - box.min) / box.size, outline.codes)


def draw_letters(
    ax: Axes, letters: str, heights: np.ndarray, *, x: np.ndarray, baseline: float, palette: Palette
) -> None:
    """Draw one letter for each position, above or below a baseline.

    All letters of one base are a single compound path, so a thousand letters take only milliseconds.

    Args:
        ax: Axes to draw on.
        letters: L letters.
        heights: (L,) in data units. Letters with a negative height are upside down below the baseline.
        x: (L,) centre of each letter.
        baseline: position of the baseline, in data units.
        palette: name of a palette.
    """
    colors = colors_of(palette)
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


def colors_of(palette: str) -> dict[str, str]:
    """Colour of each base in a palette."""
    if palette not in PALETTES:
        raise ValueError(f"`palette` must be one of {list(PALETTES)}, but got {palette!r}.")
    return PALETTES[palette]


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """`ax`, or the Axes of a new figure of this size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, new = plt.subplots(figsize=(width, height), layout="constrained")
    return new


def new_axes(ax: Axes | None, positions: int, height: float) -> Axes:
    """`ax`, or the Axes of a new figure. Its width depends on the number of positions. The height is in inches."""
    return axes_of(ax, min(max(6.0, 0.085 * positions + 1.5), 60.0), height)


def shortened(name: str, width: int = 40) -> str:
    """Shorten a name to `width` letters, for a title."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def open_frame(ax: Axes) -> None:
    """Remove the top and right side of the frame."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def part_of(length: int, start: int, end: int | None) -> slice:
    """Slice of a part of a sequence, 0-based half-open. `end` None means the end of the sequence.

    Raises:
        ValueError: an empty part, a part outside the sequence, or positions that are not integers.
    """
    for name, value in (("start", start), ("end", length if end is None else end)):
        if not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(f"`{name}` must be an integer of at least 0, but got {value!r}.")
    stop = length if end is None else end
    if not 0 <= start < stop <= length:
        raise ValueError(f"`start` and `end` must satisfy 0 <= start < end <= {length}, but got {start} and {stop}.")
    return slice(start, stop)


def dress(ax: Axes, first: int, last: int) -> None:
    """Set the limits, ticks and label of an x axis of positions."""
    ax.set_xlim(first - 0.6, last - 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=18, integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("position (bp; the first base is 0)")
    open_frame(ax)


def bound_of(values: np.ndarray, limit: float | None) -> float:
    """Value at the ends of a diverging colour scale: `limit`, or the largest absolute value.

    Raises:
        ValueError: `limit` is not above 0.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"`limit` must be above 0, but got {limit!r}.")
    return limit or float(np.nanmax(np.abs(values))) or 1.0


def two_strands(
    sequence: str,
    forward: np.ndarray,
    reverse: np.ndarray,
    part: slice,
    ax: Axes | None,
    *,
    ylabel: str,
    palette: Palette,
) -> Axes:
    """Draw both strands of a part of a sequence as two tracks of letters. Heights (L,) have the same scale."""
    letters = sequence[part]
    opposite = alphabet.decode(alphabet.complement_ids(alphabet.encode(letters)))
    forward, reverse = forward[part], reverse[part]
    low = min(forward.min(), reverse.min(), 0.0)
    high = max(forward.max(), reverse.max(), 0.0)
    gap = 0.12 * ((high - low) or 1.0)
    baselines = {"forward": gap - low, "reverse": -gap - high}
    ax = new_axes(ax, len(letters), 3.4)
    x = np.arange(part.start, part.stop)
    for strand, bases, heights in (("forward", letters, forward), ("reverse", opposite, reverse)):
        draw_letters(ax, bases, heights, x=x, baseline=baselines[strand], palette=palette)
        ax.axhline(baselines[strand], color=INK, linewidth=0.6)
    ax.axhline(0, color=INK, linewidth=0.6, linestyle=(0, (1, 3)))
    dress(ax, part.start, part.stop)
    ax.set_ylim(-gap - (high - low) - gap / 2, gap + (high - low) + gap / 2)
    values = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    values = values[(values >= low) & (values <= high)]
    ax.set_yticks([base + value for base in baselines.values() for value in values])
    ax.set_yticklabels([f"{value:.3g}" for _ in baselines for value in values])
    y_label(ax, ylabel)
    ends = {"forward": ("5′", "3′"), "reverse": ("3′", "5′")}
    margin = 0.018 * len(letters)  # room for 5′ and 3′ inside the frame, away from the tick labels
    ax.set_xlim(part.start - 0.6 - margin, part.stop - 0.4 + margin)
    for strand, baseline in baselines.items():
        for place, text in zip((part.start - 0.6, part.stop - 0.4), ends[strand], strict=True):
            align = "right" if place < part.start else "left"
            ax.text(place, baseline, text, ha=align, va="bottom", color=INK, fontsize=8)
        ax.text(
            1.0, baseline + high, f"{strand} strand", ha="right", va="bottom", color=INK, fontsize=8,
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    return ax

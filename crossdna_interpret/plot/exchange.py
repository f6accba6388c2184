"""Plots of strand exchange."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.path import Path

from crossdna_interpret.dna import alphabet
from crossdna_interpret.plot.drawing import (
    INK,
    Palette,
    axes_of,
    bound_of,
    colors_of,
    dress,
    new_axes,
    open_frame,
    part_of,
    two_strands,
)
from crossdna_interpret.plot.labels import color_scale, title, y_label
from crossdna_interpret.results import DIRECTIONS, Direction, StrandExchange
from crossdna_interpret.results.pictures import draws

__all__ = ["exchange_arcs", "exchange_effects", "exchange_logo", "exchange_map", "gate_track"]

# Vermillion and blue of Okabe and Ito: increase and decrease of the prediction.
_RAISES, _LOWERS = "#D55E00", "#0072B2"
_NAMES = {"reverse_to_forward": "reverse → forward", "forward_to_reverse": "forward → reverse"}
_MOST_ARCS = 300  # more arcs are not readable
_WIDEST = 260  # positions up to which a new figure gets wider. Longer ladders are drawn closer


def _terms(result: StrandExchange, source: str | None) -> np.ndarray:
    """Contributions (2, L, L) of one source, or of all."""
    if source is None:
        return result.contributions
    if source not in result.sources:
        raise ValueError(f"`source` must be one of {list(result.sources)}, but got {source!r}.")
    terms: np.ndarray = result.by_source[result.sources.index(source)]
    return terms


def _ways(direction: Direction) -> list[int]:
    if direction not in get_args(Direction):
        raise ValueError(f"`direction` must be one of {get_args(Direction)}, but got {direction!r}.")
    return [way for way, name in enumerate(DIRECTIONS) if direction in (name, "both")]


@draws(StrandExchange)
def exchange_arcs(
    result: StrandExchange,
    ax: Axes | None = None,
    *,
    direction: Direction = "both",
    source: str | None = None,
    share: float = 0.25,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw the two strands as a ladder, with an arc from each sender to its receiver on the other strand.

    Each direction has its own ladder. An arc has a dot at its sender. Wide arcs are large contributions. Orange
    contributions increase the prediction, blue ones decrease it.

    Args:
        result: strand exchange.
        ax: Axes to draw on. The default is a new figure.
        direction: "reverse_to_forward", "forward_to_reverse" or "both".
        source: one of `result.sources`. The default is their sum.
        share: the largest terms are drawn until they reach this fraction of the sum of absolute values, or 300 terms.
        start, end: part of the sequence to draw, 0-based half-open. Arcs that leave it are not drawn.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes. The title has the number of terms.

    Raises:
        ValueError: an unknown direction, source or palette, a part outside the sequence, or a share outside 0 to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, but got {share!r}.")
    ways, part = _ways(direction), part_of(len(result.sequence), start, end)
    terms = _terms(result, source)[ways][:, part, part]
    width = part.stop - part.start
    ax = new_axes(ax, min(width, _WIDEST), 0.7 + 1.9 * len(ways))
    sizes = np.abs(terms).ravel()
    order = np.argsort(-sizes, kind="stable")[:_MOST_ARCS]
    total = float(sizes.sum())
    enough = int(np.searchsorted(np.cumsum(sizes[order]), share * total)) + 1 if total else 0
    chosen = order[:enough]
    chosen = chosen[sizes[chosen] > 0]
    largest = float(sizes.max()) or 1.0
    paths, widths, colors, dots = [], [], [], []
    for flat in chosen[::-1]:  # the largest on top
        row, receiver, sender = np.unravel_index(flat, terms.shape)
        low, high = _rails(int(row), len(ways))
        from_, to = (low, high) if ways[row] == 0 else (high, low)  # the forward strand is the upper rail
        middle = (low + high) / 2
        x0, x1 = part.start + int(sender), part.start + int(receiver)
        paths.append(Path([(x0, from_), (x0, middle), (x1, middle), (x1, to)], [Path.MOVETO] + [Path.CURVE4] * 3))
        strength = float(sizes[flat]) / largest
        widths.append(0.3 + 3.2 * strength)
        colors.append((_RAISES if terms.ravel()[flat] > 0 else _LOWERS, 0.25 + 0.65 * strength))
        dots.append((x0, from_, 3 + 14 * strength))
    arcs = PathCollection(paths, facecolors="none", edgecolors=colors, linewidths=widths)
    arcs.set_transform(ax.transData)
    ax.add_collection(arcs)
    if dots:
        x, y, area = np.array(dots).T
        ax.scatter(x, y, s=area, color=[color for color, _ in colors], linewidths=0, zorder=3)
    _ladders(ax, result.sequence, part, ways, palette)
    kept = float(sizes[chosen].sum()) / total if total else 1.0
    of = "" if source is None else f" of {source}"
    mirrored = "; senders lie at the mirror locus" if result.mirrored else ""
    title(
        ax,
        f"the {len(chosen)} largest terms{of}, {kept:.0%} of all by size, in {result.target}: "
        f"orange raises it, blue lowers it (widest: {largest:.2g}){mirrored}",
        9,
    )
    return ax


def _rails(row: int, count: int) -> tuple[float, float]:
    """Heights of the lower and the upper rail of a ladder. The first ladder is on top."""
    base = 1.6 * (count - 1 - row)
    return base, base + 1.0


def _ladders(ax: Axes, sequence: str, part: slice, ways: list[int], palette: Palette) -> None:
    letters = sequence[part]
    opposite = alphabet.decode(alphabet.complement_ids(alphabet.encode(letters)))
    x = np.arange(part.start, part.stop)
    colors = colors_of(palette)
    dress(ax, part.start, part.stop)
    margin = max(1.0, 0.02 * len(x))
    ax.set_xlim(part.start - 0.5 - 1.6 * margin, part.stop - 0.5 + 1.6 * margin)
    ax.set_ylim(-0.35, _rails(0, len(ways))[1] + 0.45)
    inches = ax.get_window_extent().width / ax.figure.dpi / len(x)
    points = min(9.0, 72 * inches * 1.25)
    for row, way in enumerate(ways):
        low, high = _rails(row, len(ways))
        for height, bases, side, ends in ((high, letters, 1, "5′3′"), (low, opposite, -1, "3′5′")):
            ax.plot(x[[0, -1]], [height, height], color=INK, linewidth=0.5, zorder=0)
            if points >= 4:
                for at, base in zip(x, bases, strict=True):
                    ax.text(
                        at, height + 0.09 * side, base, ha="center", va="center", fontsize=points, weight="bold",
                        color=colors[base],
                    )  # fmt: skip
            else:  # too many to read: a strip of colours
                ax.scatter(x, np.full(len(x), height + 0.07 * side), s=4, marker="|", color=[colors[b] for b in bases])
            ax.text(x[0] - margin, height, ends[:2], ha="right", va="center", fontsize=8, color=INK)
            ax.text(x[-1] + margin, height, ends[2:], ha="left", va="center", fontsize=8, color=INK)
        ax.text(
            1.0, high + 0.2, f"{_NAMES[DIRECTIONS[way]]} (upper rail: forward strand)", ha="right", va="bottom",
            fontsize=8, color=INK, transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def exchange_map(
    result: StrandExchange,
    ax: Axes | None = None,
    *,
    direction: Literal["reverse_to_forward", "forward_to_reverse"] = "reverse_to_forward",
    source: str | None = None,
    cmap: str = "PuOr_r",
    limit: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw a heat map of one direction. x is the sending position, y the receiving position.

    Args:
        result: strand exchange.
        ax: Axes to draw on. The default is a new figure.
        direction: "reverse_to_forward" or "forward_to_reverse".
        source: one of `result.sources`. The default is their sum.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the 99.9th percentile of absolute values, so that a
            single term does not hide the others.
        colorbar: whether to add the colour scale.

    Returns:
        The Axes. The map is square, with position 0 in the upper left corner.

    Raises:
        ValueError: an unknown direction or source, or `limit` is not above 0.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"`direction` must be one of {DIRECTIONS}, but got {direction!r}.")
    terms = _terms(result, source)[DIRECTIONS.index(direction)]
    bound = bound_of(terms, limit)
    if limit is None:
        bound = float(np.quantile(np.abs(terms), 0.999)) or bound
    ax = axes_of(ax, 6.0, 5.0)
    image = ax.imshow(terms, cmap=cmap, norm=TwoSlopeNorm(0.0, -bound, bound))
    sender, receiver = direction.split("_to_")
    ax.set_xlabel(f"sent by the {sender} strand at (bp)")
    ax.set_ylabel(f"received by the {receiver} strand at (bp)")
    ax.set_title(_NAMES[direction] + ("" if source is None else f", {source}"), fontsize=9)
    if colorbar:
        color_scale(ax, image, f"contribution to\n{result.target}", shrink=0.8, extend="both")
    return ax


def exchange_logo(
    result: StrandExchange,
    ax: Axes | None = None,
    *,
    what: Literal["received", "sent"] = "received",
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw both strands as logos of the contributions that each position receives from the other strand or sends to it.

    Args:
        result: strand exchange.
        ax: Axes to draw on. The default is a new figure.
        what: "received" (the sum is the effect of exchange) or "sent" (the sum is this effect without the bias).
        start, end: part of the sequence to draw, 0-based half-open. The default is all.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes.

    Raises:
        ValueError: another `what`, an empty part or a part outside the sequence, or an unknown palette.
    """
    if what not in ("received", "sent"):
        raise ValueError(f"`what` must be 'received' or 'sent', but got {what!r}.")
    part = part_of(len(result.sequence), start, end)
    # The forward strand receives in the first direction and sends in the second.
    forward, reverse = result.received if what == "received" else result.sent[::-1]
    ylabel = f"{what} by exchange,\n{result.target}"
    return two_strands(result.sequence, forward, reverse, part, ax, ylabel=ylabel, palette=palette)


def gate_track(result: StrandExchange, ax: Axes | None = None) -> Axes:
    """Draw the gate of each strand along the sequence, and the weight of the forward strand in the fusion.

    Args:
        result: strand exchange. Gates are means over channels.
        ax: Axes to draw on. The default is a new figure.

    Returns:
        The Axes.
    """
    ax = new_axes(ax, len(result.sequence), 2.0)
    x = np.arange(len(result.sequence))
    for way, color in enumerate((_RAISES, _LOWERS)):
        ax.plot(x, result.gates[way], color=color, linewidth=1.2, label=f"gate, {_NAMES[DIRECTIONS[way]]}")
    ax.plot(x, result.fusion_gate, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label="fusion: forward strand")
    dress(ax, 0, len(result.sequence))
    ax.set_ylim(0, 1)
    ax.set_ylabel("mean gate,\n0 shut to 1 open")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
    return ax


def exchange_effects(result: StrandExchange, ax: Axes | None = None, *, color: str = "#0072B2") -> Axes:
    """Draw the prediction without messages, with the messages of each direction, and with both.

    Args:
        result: strand exchange. Its `effects` are drawn, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the bars.

    Returns:
        The Axes. The dashed mark is the sum of the single effects of both directions.
    """
    effects = result.effects
    ax = axes_of(ax, 5.0, 3.0)
    bars: dict[str, float] = {
        "none": effects.none,
        _NAMES["reverse_to_forward"].replace(" ", "\n", 1): effects.reverse_to_forward,
        _NAMES["forward_to_reverse"].replace(" ", "\n", 1): effects.forward_to_reverse,
        "both": effects.both,
    }
    computed: Any = ax.bar(list(bars), list(bars.values()), color=[INK, color, color, color], width=0.6)
    ax.bar_label(computed, [f"{value:.2f}" for value in bars.values()], fontsize=8, padding=2)
    additive = effects.both - effects.interaction
    ax.hlines(additive, 2.6, 3.4, color=_RAISES, linestyle=(0, (3, 2)), linewidth=1.2)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.margins(y=0.15)
    open_frame(ax)
    y_label(ax, f"predicted\n{result.target}")
    ax.set_xlabel("messages")
    ax.set_title(
        f"exchange adds {effects.total:+.2f}, of which interaction of directions {effects.interaction:+.2f}", fontsize=9
    )
    return ax

"""Plots of motif sites, effects, interactions and designs."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from crossdna_interpret.plot.drawing import (
    INK,
    Palette,
    axes_of,
    bound_of,
    draw_letters,
    dress,
    new_axes,
    open_frame,
    part_of,
)
from crossdna_interpret.plot.labels import LITERAL, color_scale, legend_label, tick_label, title, x_label, y_label
from crossdna_interpret.results import Design, Marginalization, MotifInteractions, MotifSites, Seqlets, Spacing
from crossdna_interpret.results.pictures import draws

__all__ = [
    "annotated_logo",
    "design_path",
    "interaction_graph",
    "interaction_matrix",
    "marginal_effects",
    "necessity_sufficiency",
    "spacing_curves",
]

_LETTER = 1.3  # approximate width of a letter of a name, in positions of a logo with default width
_FORWARD, _REVERSE = "#0072B2", "#D55E00"


@draws(MotifSites, Seqlets)
def annotated_logo(
    result: MotifSites | Seqlets,
    ax: Axes | None = None,
    *,
    example: int = 0,
    start: int = 0,
    end: int | None = None,
    palette: Palette = "colorblind",
) -> Axes:
    """Draw a sequence as a logo of its attributions, with brackets and names above its sites.

    Args:
        result: motif sites or seqlets. Without attributions, all letters have the same height.
        ax: Axes to draw on. The default is a new figure.
        example: index of the sequence.
        start, end: part of the sequence to draw, 0-based half-open. The default is all.
        palette: "colorblind" (default) or "classic".

    Returns:
        The Axes. An arrow at a name shows the strand of the motif.

    Raises:
        ValueError: no such example, an empty part or a part outside the sequence, or an unknown palette.
    """
    shown = result.of(example)
    sequence = shown.sequences[0]
    part = part_of(len(sequence), start, end)
    heights = (np.ones(len(sequence)) if shown.importances is None else shown.importances[0])[part]
    brackets = []
    for row in shown:
        if row.start < part.stop and row.end > part.start:
            name = ""
            if isinstance(result, MotifSites):
                name = f"{row.name} →" if row.strand == "+" else f"← {row.name}"
            brackets.append((max(row.start, part.start), min(row.end, part.stop), name))
    lanes = _lanes(brackets)
    ax = new_axes(ax, len(heights), 2.2 + 0.24 * (max(lanes, default=-1) + 1))
    draw_letters(ax, sequence[part], heights, x=np.arange(part.start, part.stop), baseline=0.0, palette=palette)
    ax.axhline(0, color=INK, linewidth=0.6)
    dress(ax, part.start, part.stop)
    low, high = min(0.0, float(heights.min())), max(0.0, float(heights.max()))
    step = 0.16 * ((high - low) or 1.0)
    for (first, last, name), lane in zip(brackets, lanes, strict=True):
        y = high + step * (0.5 + lane)
        ax.plot(
            [first - 0.4, first - 0.4, last - 0.6, last - 0.6], [y - 0.25 * step, y, y, y - 0.25 * step],
            color=INK, linewidth=1.0, solid_joinstyle="miter",
        )  # fmt: skip
        ax.text(
            (first + last - 1) / 2, y + 0.06 * step, name, ha="center", va="bottom", fontsize=7.5, color=INK, **LITERAL
        )
    top = high + step * (0.4 + (max(lanes, default=-1) + 1))
    ax.set_ylim(low - 0.05 * ((high - low) or 1.0), top)
    y_label(ax, f"attribution,\n{shown.target}" if shown.importances is not None else "")
    if shown.importances is None:
        ax.set_yticks([])
    return ax


def _lanes(brackets: list[tuple[int, int, str]]) -> list[int]:
    """The lowest lane for each bracket in which the bracket and its name do not overlap others."""
    taken: list[list[tuple[float, float]]] = []
    lanes = []
    for first, last, name in brackets:
        middle, half = (first + last) / 2, max((last - first) / 2, _LETTER * len(name) / 2)
        left, right = middle - half - 1, middle + half + 1
        lane = next(
            (at for at, spans in enumerate(taken) if all(right <= a or left >= b for a, b in spans)), len(taken)
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((left, right))
        lanes.append(lane)
    return lanes


@draws(MotifInteractions, kind="graph")
def interaction_graph(
    result: MotifInteractions, ax: Axes | None = None, *, cmap: str = "PuOr_r", limit: float | None = None
) -> Axes:
    """Draw the sites along the sequence, with an arc between each pair of sites that interact.

    Args:
        result: a result of `motif_interactions`. The colours are its `interaction`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the largest absolute value.

    Returns:
        The Axes. Additive pairs have no arc. The height of a site is its necessity.

    Raises:
        ValueError: `limit` is not above 0.
    """
    length = len(result.sequence)
    ax = new_axes(ax, length, 3.2)
    needed = result.reference - result.without.mean(axis=1)
    bound = bound_of(result.interaction, limit) if len(result.pairs) else 1.0
    norm, colors = TwoSlopeNorm(0.0, -bound, bound), colormaps[cmap]
    tallest = float(np.abs(needed).max()) if len(needed) else 1.0
    rows = list(result.sites)
    ax.plot([-0.5, length - 0.5], [0, 0], color=INK, linewidth=1)
    for row, value in zip(rows, needed, strict=True):
        height = 0.35 * value / (tallest or 1.0)
        color = _FORWARD if row.strand == "+" else _REVERSE
        ax.add_patch(Rectangle((row.start - 0.5, 0), row.end - row.start, height, facecolor=color, alpha=0.85))
        # Show the position of sites with a necessity of almost 0, too.
        ax.plot([row.start - 0.5, row.end - 0.5], [0, 0], color=color, linewidth=3, solid_capstyle="butt")
    names = [(row.start, row.end, f"{row.name} {'→' if row.strand == '+' else '←'}") for row in rows]
    lanes = _lanes(names)
    for (first, last, name), lane in zip(names, lanes, strict=True):
        ax.text(
            (first + last - 1) / 2, -0.42 - 0.14 * lane, name, ha="center", va="top", fontsize=7.5, color=INK, **LITERAL
        )
    linked = [pair for pair, kind in zip(result.pairs.tolist(), result.kinds, strict=True) if kind != "additive"]
    middles = [(row.start + row.end - 1) / 2 for row in rows]
    widest = max((abs(middles[one] - middles[other]) for one, other in linked), default=1.0)
    for (one, other), value, kind in zip(result.pairs, result.interaction, result.kinds, strict=True):
        if kind == "additive":
            continue
        left, right = sorted((middles[one], middles[other]))
        top = 0.55 + 1.2 * np.sqrt((right - left) / widest)
        path = Path(
            [(left, 0.38), (left, top), (right, top), (right, 0.38)],
            [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
        )
        width = 0.8 + 2.6 * abs(value) / bound
        style = "-" if kind == "synergistic" else (0, (4, 2))
        ax.add_patch(PathPatch(path, facecolor="none", edgecolor=colors(norm(value)), linewidth=width, linestyle=style))
    dress(ax, 0, length)
    ax.set_ylim(-0.6 - 0.14 * (max(lanes, default=0) + 1), 1.7)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    color_scale(ax, ScalarMappable(norm, cmap), f"interaction in\n{result.target}", pad=0.01, aspect=16)
    ax.set_title("solid: synergistic; dashed: redundant; boxes: necessity (blue + strand, orange - strand)", fontsize=8)
    return ax


@draws(MotifInteractions, kind="matrix")
def interaction_matrix(
    result: MotifInteractions,
    ax: Axes | None = None,
    *,
    through_exchange: bool = False,
    cmap: str = "PuOr_r",
    limit: float | None = None,
) -> Axes:
    """Draw a heat map of the interaction of each pair of sites.

    Args:
        result: a result of `motif_interactions`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        through_exchange: whether to show the part that goes through messages between the strands.
        cmap: a diverging colour map.
        limit: value at the ends of the colour scale. The default is the largest absolute value.

    Returns:
        The Axes. The diagonal and pairs that overlap are blank.

    Raises:
        ValueError: `limit` is not above 0, or the model has no exchange.
    """
    shown = result.matrix
    if through_exchange:
        values = result.through_exchange
        if values is None:
            raise ValueError("`through_exchange`: the model has no messages between its strands.")
        shown = np.full_like(shown, np.nan)
        first, second = result.pairs.T
        shown[first, second] = shown[second, first] = values
    count = len(result.sites)
    ax = axes_of(ax, 2.6 + 0.34 * count, 1.8 + 0.34 * count)
    bound = bound_of(shown, limit) if np.isfinite(shown).any() else 1.0
    image = ax.imshow(shown, cmap=cmap, norm=TwoSlopeNorm(0.0, -bound, bound), interpolation="nearest")
    labels = [tick_label(ax, f"{row.name} {row.start}", 7.5) for row in result.sites]
    ax.set_xticks(range(count), labels, rotation=90, **LITERAL)
    ax.set_yticks(range(count), labels, **LITERAL)
    ax.tick_params(labelsize=7.5)
    what = "interaction through\nexchange in" if through_exchange else "interaction in"
    color_scale(ax, image, f"{what} {result.target}", pad=0.02, shrink=0.8)
    return ax


@draws(Spacing)
def spacing_curves(
    result: Spacing, ax: Axes | None = None, *, show: str = "effect", colors: tuple[str, str] = (_FORWARD, _REVERSE)
) -> Axes:
    """Draw the effect of two motifs against their distance, with a curve for each order and relative orientation.

    Args:
        result: a result of `spacing`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        show: "effect" of both motifs, or "interaction", the effect of both minus the single effects.
        colors: colours for b on the same strand as a, and on the other strand.

    Returns:
        The Axes. Bands are 95 % intervals of the mean over backgrounds.

    Raises:
        ValueError: another value of `show`.
    """
    if show not in ("effect", "interaction"):
        raise ValueError(f"`show` must be 'effect' or 'interaction', but got {show!r}.")
    ax = axes_of(ax, 6.4, 3.2)
    a, b = result.motifs
    table = result.to_dataframe()
    ax.axhline(0, color=INK, linewidth=0.6)
    for (order, strand), group in table.groupby(["order", "strand"], sort=False):
        reverse = "→" if strand == "+" else "←"
        label = f"{a} → {b} {reverse}" if order == "a-b" else f"{b} {reverse} {a} →"
        color = colors[0] if strand == "+" else colors[1]
        x = group["distance"].to_numpy()
        mean, low, high = (group[name].to_numpy() for name in (show, f"{show}_low", f"{show}_high"))
        style = "-" if order == "a-b" else "--"
        label = legend_label(ax, label, 7.5)
        ax.plot(x, mean, color=color, linestyle=style, linewidth=1.4, marker="o", markersize=2.5, label=label)
        if np.isfinite(low).all():
            ax.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    ax.set_xlabel("distance between the motifs (bp)")
    what = "effect of both" if show == "effect" else "beyond the sum of each"
    y_label(ax, f"{what},\n{result.target}")
    for text in ax.legend(fontsize=7.5, frameon=False, ncols=2).get_texts():
        text.set_parse_math(False)
    open_frame(ax)
    return ax


@draws(Marginalization)
def marginal_effects(result: Marginalization, ax: Axes | None = None, *, color: str = _FORWARD) -> Axes:
    """Draw the effect of a motif in each background, by strand, with the mean.

    Args:
        result: a result of `marginalize`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the points.

    Returns:
        The Axes.
    """
    ax = axes_of(ax, 3.2, 3.0)
    spread = (np.arange(result.delta.shape[1]) * 0.618) % 1 - 0.5  # spread the points without visible order
    for at, values in enumerate(result.delta):
        ax.plot(at + 0.5 * spread, values, linestyle="", marker="o", markersize=3, alpha=0.5, color=color)
        ax.plot([at - 0.3, at + 0.3], [values.mean()] * 2, color=INK, linewidth=2)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.set_xlim(-0.6, 1.6)
    ax.set_xticks([0, 1], ["+ strand", "- strand"])
    y_label(ax, f"change in {result.target}")
    title(ax, f"{result.motif} in {len(result.backgrounds)} backgrounds", 9)
    open_frame(ax)
    return ax


def necessity_sufficiency(result: MotifSites, ax: Axes | None = None, *, labels: int = 12) -> Axes:
    """Draw the sufficiency of each site against its necessity.

    Args:
        result: sites from `site_effects`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        labels: number of sites to name, those with the largest effects.

    Returns:
        The Axes. Bars are standard errors. On the line both are equal, as expected for independent sites.

    Raises:
        ValueError: necessity and sufficiency are not measured yet.
    """
    if not result.measured:
        raise ValueError("`result` has no necessity and sufficiency yet: call site_effects first.")
    ax = axes_of(ax, 4.4, 4.2)
    table = result.table
    x, y = table["necessity"].to_numpy(), table["sufficiency"].to_numpy()
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.axvline(0, color=INK, linewidth=0.6)
    ax.errorbar(
        x, y, xerr=table["necessity_error"], yerr=table["sufficiency_error"], linestyle="", marker="o", markersize=4,
        color=_FORWARD, ecolor="#9A9A9A", elinewidth=0.7,
    )  # fmt: skip
    ends = [float(min(0.0, *x, *y)), float(max(0.0, *x, *y))] if len(x) else [0.0, 1.0]
    ax.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    for at in np.argsort(-np.hypot(x, y))[:labels]:
        ax.annotate(
            str(table["name"].iloc[at]), (x[at], y[at]), xytext=(4, 4), textcoords="offset points", fontsize=7.5,
            **LITERAL,
        )  # fmt: skip
    x_label(ax, f"necessity: lost without the site, {result.target}")
    ax.set_ylabel("sufficiency: brought to shuffled sequences")
    return ax


@draws(Design)
def design_path(result: Design, ax: Axes | None = None, *, color: str = _FORWARD) -> Axes:
    """Draw the prediction after each edit of a design.

    Args:
        result: a result of `design`, in the units of the target.
        ax: Axes to draw on. The default is a new figure.
        color: colour of the line.

    Returns:
        The Axes.
    """
    steps = len(result.predictions)
    ax = axes_of(ax, max(3.6, 0.42 * steps + 1.6), 3.4)
    ax.plot(range(steps), result.predictions, color=color, linewidth=1.4, marker="o", markersize=4)
    if not isinstance(result.goal, str):
        ax.axhline(result.goal, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        ax.text(0, result.goal, "goal", va="bottom", fontsize=8, color=INK)
    labels = [tick_label(ax, label, 8) for label in result.labels]
    ax.set_xticks(range(steps), ["start", *labels], rotation=60, ha="right", fontsize=8, **LITERAL)
    y_label(ax, f"predicted\n{result.target}")
    open_frame(ax)
    return ax

"""Labels: line breaks, and names drawn without mathematics.

A name may have a "$", which matplotlib would read as mathematics.
"""

from __future__ import annotations

import re
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

__all__ = ["LITERAL", "color_scale", "fitted", "legend_label", "tick_label", "title", "x_label", "y_label"]

LITERAL: dict[str, Any] = {"parse_math": False}
_SIZES = (1.0, 0.85, 0.7)  # of the font, tried in turn
_LINES = 3  # at most, before the font gets smaller


def y_label(ax: Axes, text: str) -> None:
    """Set the label of the y axis."""
    words, size = fitted(text, _points(ax)[1], _label_size())
    ax.set_ylabel(words, fontsize=size, **LITERAL)


def x_label(ax: Axes, text: str) -> None:
    """Set the label of the x axis."""
    words, size = fitted(text, _points(ax)[0], _label_size())
    ax.set_xlabel(words, fontsize=size, **LITERAL)


def title(ax: Axes, text: str, fontsize: float) -> None:
    """Set the title, which stays over an Axes that makes room for labels on its left."""
    words, size = fitted(text, 0.85 * _points(ax)[0], fontsize)
    ax.set_title(words, fontsize=size, **LITERAL)


def color_scale(ax: Axes, image: ScalarMappable, text: str, **options: Any) -> None:
    """Add a colour scale beside an Axes; options as for ``Figure.colorbar``."""
    words, size = fitted(text, _points(ax)[1] * options.get("shrink", 1.0), _label_size())
    ax.figure.colorbar(image, ax=ax, **options).set_label(words, fontsize=size, **LITERAL)


def legend_label(ax: Axes, text: str, fontsize: float) -> str:
    """Text of an entry of a legend with two columns, broken into lines that fit in one of them."""
    return fitted(text, 0.42 * _points(ax)[0], fontsize)[0]


def tick_label(ax: Axes, text: str, fontsize: float) -> str:
    """Text of a tick label, broken into lines that leave the picture more than half of the figure."""
    box = ax.figure.bbox
    return fitted(text, 0.4 * 72 / ax.figure.dpi * min(box.width, box.height), fontsize)[0]


def fitted(text: str, width: float, fontsize: float) -> tuple[str, float]:
    """Text broken into lines, and the size of font at which they fit.

    Args:
        text: one or several lines, which are broken at spaces and behind punctuation, and where that does not do,
            anywhere.
        width: that a line may have, in points.
        fontsize: in points; smaller ones are tried where a line would be broken into more than three.

    Returns:
        The text with line breaks, and the size in points.
    """
    for share in _SIZES:
        broken = [_broken(line, width, share * fontsize) for line in text.split("\n")]
        if max(map(len, broken)) <= _LINES:
            break
    return "\n".join(line for lines in broken for line in lines), share * fontsize


def _broken(line: str, width: float, fontsize: float) -> list[str]:
    """Lines of whole words; of parts of a word where it is longer than a line; of letters where such a part is."""
    lines = [""]
    for word in line.split():
        if lines[-1] and _width(f"{lines[-1]} {word}", fontsize) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for part in [word] if _width(word, fontsize) <= width else re.findall(r"[^_\-.:/|,;]*[_\-.:/|,;]*", word):
            for piece in [part] if _width(part, fontsize) <= width else part:
                if lines[-1] and _width(lines[-1] + piece, fontsize) > width:
                    lines.append("")
                lines[-1] += piece
    return lines


def _width(text: str, fontsize: float) -> float:
    """In points, as the default font draws it."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=fontsize), ismath=False)
    return float(width)


def _points(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes, less what its labels may still take of it."""
    box = ax.get_window_extent()
    scale = 0.9 * 72 / ax.figure.dpi
    return scale * box.width, scale * box.height


def _label_size() -> float:
    """Size in points of an axis' label by matplotlib's settings."""
    return float(FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points())

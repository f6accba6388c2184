"""Labels: line breaks, and names without math text.

A name may have a "$", which matplotlib would read as math text.
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
_SIZES = (1.0, 0.85, 0.7)  # font sizes to try, in this order
_LINES = 3  # with more lines, the next smaller font is tried


def y_label(ax: Axes, text: str) -> None:
    """Set the label of the y axis."""
    words, size = fitted(text, _points(ax)[1], _label_size())
    ax.set_ylabel(words, fontsize=size, **LITERAL)


def x_label(ax: Axes, text: str) -> None:
    """Set the label of the x axis."""
    words, size = fitted(text, _points(ax)[0], _label_size())
    ax.set_xlabel(words, fontsize=size, **LITERAL)


def title(ax: Axes, text: str, fontsize: float) -> None:
    """Set the title. It stays above the Axes if the Axes makes room for labels on its left."""
    words, size = fitted(text, 0.85 * _points(ax)[0], fontsize)
    ax.set_title(words, fontsize=size, **LITERAL)


def color_scale(ax: Axes, image: ScalarMappable, text: str, **options: Any) -> None:
    """Add a colour scale beside an Axes. Options as for ``Figure.colorbar``."""
    words, size = fitted(text, _points(ax)[1] * options.get("shrink", 1.0), _label_size())
    ax.figure.colorbar(image, ax=ax, **options).set_label(words, fontsize=size, **LITERAL)


def legend_label(ax: Axes, text: str, fontsize: float) -> str:
    """Break the text of a legend entry into lines that fit in one of two columns."""
    return fitted(text, 0.42 * _points(ax)[0], fontsize)[0]


def tick_label(ax: Axes, text: str, fontsize: float) -> str:
    """Break the text of a tick label into lines that take less than half of the width of the figure."""
    box = ax.figure.bbox
    return fitted(text, 0.4 * 72 / ax.figure.dpi * min(box.width, box.height), fontsize)[0]


def fitted(text: str, width: float, fontsize: float) -> tuple[str, float]:
    """Break text into lines, and choose a font size at which they fit.

    Args:
        text: one or several lines. They are broken at spaces and after punctuation, and if necessary anywhere.
        width: largest width of a line, in points.
        fontsize: font size in points. Smaller sizes are tried if a line would need more than three lines.

    Returns:
        The text with line breaks, and the font size in points.
    """
    for share in _SIZES:
        broken = [_broken(line, width, share * fontsize) for line in text.split("\n")]
        if max(map(len, broken)) <= _LINES:
            break
    return "\n".join(line for lines in broken for line in lines), share * fontsize


def _broken(line: str, width: float, fontsize: float) -> list[str]:
    """Break a line between words. Break a word that is too long after punctuation, and if necessary anywhere."""
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
    """Width in points in the default font."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=fontsize), ismath=False)
    return float(width)


def _points(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes in points, without the space that its labels may still take."""
    box = ax.get_window_extent()
    scale = 0.9 * 72 / ax.figure.dpi
    return scale * box.width, scale * box.height


def _label_size() -> float:
    """Font size of an axis label in points, from matplotlib's settings."""
    return float(FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points())

"""Drawings as images inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from crossdna_interpret.results import Certificate

__all__ = ["facts", "picture", "rendered"]


def picture(draw: Callable[[Figure], object], width: float, height: float) -> str:
    """A drawing as a data URL. As separate images, SVGs on one page cannot have conflicting ids.

    Args:
        draw: draws on a figure.
        width, height: size of the figure, in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def facts(certificate: Certificate) -> list[tuple[str, str]]:
    """Names and values of a certificate, as text."""
    result = []
    for key, value in certificate.to_dict().items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        result.append((key.replace("_", " "), text))
    return result


def rendered(template: str, **values: Any) -> str:
    """Text of a page from a template in the assets, with every value escaped."""
    text = resources.files("crossdna_interpret").joinpath(f"assets/{template}").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(text).render(**values)

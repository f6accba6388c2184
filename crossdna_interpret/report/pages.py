"""What all pages share: drawings, text from templates, and the table beside a page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from crossdna_interpret.results import Certificate

__all__ = ["facts", "picture", "rendered", "table_beside"]

_OTHER_FILES = {".csv", ".docx", ".jpeg", ".jpg", ".json", ".md", ".pdf", ".png", ".svg", ".txt"}


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


def table_beside(out: Path) -> Path:
    """Path of the table beside a page.

    Raises:
        ValueError: `out` ends in `.tsv` or like a picture or document, or names no file.
        FileNotFoundError, PermissionError: its folder does not exist or is not writable.
    """
    if out.suffix.lower() == ".tsv":
        raise ValueError(f"`out` is the page and must not end in .tsv, where its table would go, but got {out}.")
    if out.suffix.lower() in _OTHER_FILES:
        raise ValueError(f"`out` is an HTML page and must end in .html, but got {out}.")
    if not out.name:
        raise ValueError(f"`out` must name a file, but got {str(out)!r}.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"`out` {out} is in a folder that does not exist.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"`out` {out} is in a folder that cannot be written to.")
    return out.with_name(f"{out.stem if out.suffix.lower() in ('.html', '.htm') else out.name}.tsv")

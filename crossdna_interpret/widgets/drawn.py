"""What the views' modules are given to draw, as plain values: for widgets, and for pages that have no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from crossdna_interpret.results import Attribution, Mutagenesis, StrandExchange

__all__ = [
    "DEFAULTS",
    "SHARED",
    "exchange_map",
    "logo_view",
    "mutagenesis_map",
    "packed",
    "static_text",
    "wild_letters",
]

# What views of one sequence have in common; linked views change these together.
SHARED = ("view", "cursor", "selection", "flipped", "palette")
# What each view has, until it is given something else.
DEFAULTS: dict[str, Any] = {
    "sequence": "", "wild": "", "view": [0.0, 0.0], "cursor": -1, "selection": [], "flipped": False,
    "palette": "colorblind", "editable": False, "stale": False, "label": "", "hint": "",
    "forward": b"", "reverse": b"", "brackets": [],
    "delta": b"", "limit": 0.0,
    "terms": b"", "map": b"", "cells": 0, "received": b"", "largest": 0.0, "sources": [], "source": "",
    "direction": "both", "mode": "arcs", "side": "receiver", "threshold": 0.3, "note": "",
}  # fmt: skip
_MOST_TERMS = 1500  # arcs that are sent to the screen
_MOST_CELLS = 328  # of a map's side; longer sequences are summed into so many


def static_text(name: str) -> str:
    """A file of the widgets' static folder."""
    return resources.files("crossdna_interpret").joinpath(f"widgets/static/{name}").read_text(encoding="utf-8")


def packed(values: np.ndarray) -> bytes:
    """Numbers as a view's module reads them: float32, little-endian."""
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def wild_letters(wild_type: str, origin: Sequence[int] | np.ndarray) -> str:
    """For each base the letter of the wild type it stands for, "-" for one that was put in."""
    return "".join("-" if at < 0 else wild_type[at] for at in np.asarray(origin).tolist())


def logo_view(result: Attribution | Mutagenesis) -> dict[str, Any]:
    """Of a whole sequence.

    Raises:
        ValueError: mutagenesis of a part only.
    """
    if isinstance(result, Attribution):
        kind, heights = "attribution", result.forward.sum(axis=1)
        reverse = packed(result.reverse.sum(axis=1)) if result.by_strand else b""
    else:
        _require_whole(result)
        kind, heights, reverse = "mutagenesis", result.importance, b""
    return {
        "sequence": result.sequence,
        "forward": packed(heights),
        "reverse": reverse,
        "label": f"{kind}, {result.target}",
    }


def mutagenesis_map(result: Mutagenesis) -> dict[str, Any]:
    """Of a whole sequence.

    Raises:
        ValueError: mutagenesis of a part only.
    """
    _require_whole(result)
    return {
        "sequence": result.sequence,
        "delta": packed(result.delta),
        "limit": float(np.abs(result.delta).max()),
        "label": f"change in {result.target}",
    }


def _require_whole(result: Mutagenesis) -> None:
    if len(result.predictions) != len(result.sequence):
        raise ValueError(
            f"A view needs mutagenesis of the whole sequence, but got that of {result.start} to {result.end} of "
            f"{len(result.sequence)} bases."
        )


def exchange_map(result: StrandExchange, source: str = "") -> dict[str, Any]:
    """Of one source, or of all."""
    terms = result.by_source[result.sources.index(source)] if source in result.sources else result.contributions
    length = len(result.sequence)
    flat = np.abs(terms).ravel()
    count = min(_MOST_TERMS, len(flat))
    chosen = np.argpartition(flat, len(flat) - count)[len(flat) - count :]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    way, receiver, sender = np.unravel_index(chosen, terms.shape)
    cells = min(length, _MOST_CELLS)
    edges = np.arange(cells) * length // cells
    summed = np.add.reduceat(np.add.reduceat(terms, edges, axis=1), edges, axis=2)
    mirrored = "; senders lie at the mirror locus" if result.mirrored else ""
    return {
        "sequence": result.sequence,
        "sources": list(result.sources),
        "terms": packed(np.stack([way, receiver, sender, terms.ravel()[chosen]], axis=1)),
        "map": packed(summed),
        "cells": cells,
        "largest": float(flat.max()),
        "limit": float(np.quantile(np.abs(summed), 0.999)) or float(np.abs(summed).max()) or 1.0,
        "received": packed(np.concatenate([result.received, result.sent])),
        "label": f"exchange adds {result.effects.total:+.3f} to {result.target} "
        f"(interaction of directions {result.effects.interaction:+.3f}){mirrored}",
    }

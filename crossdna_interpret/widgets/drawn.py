"""Data of the views as plain values, for widgets and for pages."""

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
    "window_after",
]

# Traits that linked views of one sequence share.
SHARED = ("view", "cursor", "selection", "flipped", "palette")
# Default traits of each view.
DEFAULTS: dict[str, Any] = {
    "sequence": "", "wild": "", "view": [0.0, 0.0], "cursor": -1, "selection": [], "flipped": False,
    "palette": "colorblind", "editable": False, "stale": False, "label": "", "hint": "",
    "forward": b"", "reverse": b"", "brackets": [],
    "delta": b"", "limit": 0.0,
    "terms": b"", "map": b"", "cells": 0, "received": b"", "largest": 0.0, "sources": [], "source": "",
    "direction": "both", "mode": "arcs", "side": "receiver", "threshold": 0.3, "note": "",
}  # fmt: skip
_MOST_TERMS = 1500  # largest number of arcs sent to the browser
_MOST_CELLS = 328  # largest number of cells on a side of a map. Longer sequences are summed into this many


def static_text(name: str) -> str:
    """A file of the widgets' static folder."""
    return resources.files("crossdna_interpret").joinpath(f"widgets/static/{name}").read_text(encoding="utf-8")


def packed(values: np.ndarray) -> bytes:
    """Values in the format of the view's module: float32, little-endian."""
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def wild_letters(wild_type: str, origin: Sequence[int] | np.ndarray) -> str:
    """The wild-type letter at each base, or "-" for an inserted base."""
    return "".join("-" if at < 0 else wild_type[at] for at in np.asarray(origin).tolist())


def window_after(window: Sequence[float], before: str, after: str) -> list[float]:
    """The window of positions to show when one sequence replaces another.

    If the length does not change, the window does not change. If one span was inserted, deleted or replaced, the window
    stays on the same bases. For any other sequence, everything is shown.

    Args:
        window: first position and one after the last, in `before`. Empty or equal values mean all positions.
        before, after: the sequences. `before` is empty if nothing was shown.

    Example:
        >>> window_after([10, 20], "ACGTTGCA" * 4, "GG" + "ACGTTGCA" * 4)
        [12, 22]
    """
    if not before or len(before) == len(after) or len(window) != 2 or not window[1] > window[0]:
        return list(window)
    first, last = window
    shorter = min(len(before), len(after))
    head = _shared(before, after)
    tail = min(_shared(before[::-1], after[::-1]), shorter - head)
    span = last - first
    if span >= len(after) or 2 * (head + tail) < shorter:
        return [0.0, 0.0]
    if first > head:
        first = max(head, first + len(after) - len(before))
    first = max(0, min(first, len(after) - span))
    return [first, first + span]


def _shared(one: str, other: str) -> int:
    """Length of the common prefix of two sequences."""
    differing = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def logo_view(result: Attribution | Mutagenesis) -> dict[str, Any]:
    """Values of a `LogoView` of a whole sequence.

    Raises:
        ValueError: the mutagenesis is not of the whole sequence.
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
    """Values of a `MutagenesisMap` of a whole sequence.

    Raises:
        ValueError: the mutagenesis is not of the whole sequence.
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
    """Values of a `StrandExchangeMap`, of one source or of all."""
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

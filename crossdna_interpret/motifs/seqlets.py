"""Seqlets: spans of high attribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossdna_interpret._compat import keep_compiled, quiet_and_same_threads
from crossdna_interpret._validation import integer
from crossdna_interpret.results import Attribution, Certificate, ExchangeMutagenesis, Mutagenesis, Seqlets

__all__ = ["AttributionLike", "checked_results", "find_seqlets", "whole_importance"]

AttributionLike = Attribution | Mutagenesis | ExchangeMutagenesis


def find_seqlets(
    result: AttributionLike | Sequence[AttributionLike],
    *,
    threshold: float = 0.05,
    min_length: int = 4,
    max_length: int = 25,
    flank: int = 0,
    sign: int | None = None,
) -> Seqlets:
    """Find seqlets: spans of high attribution, such as the binding sites that a model uses.

    The method is tangermeme's recursive seqlets. A span is a seqlet if its sum, and the sum of every span inside it,
    are larger than expected by chance. Chance means positions drawn independently from all attributions of the call. So
    sequences of one length in one call have the same criterion. Negative seqlets are found in the negated attributions.
    They are removed if they overlap a positive seqlet.

    Args:
        result: a result of `ism`, `integrated_gradients`, `input_gradient` or `exchange_ism`, or a list of results for
            one target.
        threshold: largest p value of a seqlet.
        min_length, max_length: limits for the length of a seqlet, in bases.
        flank: bases to add on each side.
        sign: 1 for seqlets that increase the prediction, -1 for those that decrease it. The default is both.

    Returns:
        Seqlets, sorted by sequence and start.

    Raises:
        ValueError, TypeError: no result, results of several targets or models, or an invalid option.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = find_seqlets(cdi.ism(cdi.example().sequence))
        >>> result.to_dataframe().columns.tolist()
        ['example', 'start', 'end', 'attribution', 'p_value']
    """
    results = checked_results(result)
    integer("min_length", min_length, 2)
    integer("max_length", max_length, min_length)
    integer("flank", flank)
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be above 0 and at most 1, but got {threshold!r}.")
    if sign not in (None, 1, -1):
        raise ValueError(f"`sign` must be 1, -1 or None, but got {sign!r}.")
    importances = [whole_importance(each) for each in results]
    computed = pd.concat(
        [_recursive(results, way, threshold, min_length, max_length) for way in (1, -1) if sign in (None, way)],
        ignore_index=True,
    )
    computed = _without_overlaps(computed)
    lengths = np.array([len(each.sequence) for each in results])[computed["example"].to_numpy(dtype=int)]
    computed["start"] = np.maximum(0, computed["start"] - flank)
    computed["end"] = np.minimum(lengths, computed["end"] + flank)
    stretches = zip(computed["example"], computed["start"], computed["end"], strict=True)
    computed["attribution"] = [float(importances[at][start:end].sum(dtype=np.float64)) for at, start, end in stretches]
    settings = {
        "threshold": threshold, "min_length": min_length, "max_length": max_length, "flank": flank, "sign": sign,
        "attributions": ", and ".join(dict.fromkeys(each.certificate.method for each in results)),
    }  # fmt: skip
    certificate = Certificate.merge(
        [each.certificate for each in results], method="recursive seqlets", settings=settings
    )
    return Seqlets(
        sequences=tuple(each.sequence for each in results),
        target=results[0].target,
        table=computed.sort_values(["example", "start"], ignore_index=True),
        certificate=certificate,
        importances=tuple(importances),
    )


def checked_results(result: AttributionLike | Sequence[AttributionLike]) -> list[AttributionLike]:
    """Results as a list. All must have the same target and model."""
    results = [result] if isinstance(result, AttributionLike) else list(result)
    for index, each in enumerate(results):
        if not isinstance(each, AttributionLike):
            raise TypeError(
                f"`result[{index}]` must be an Attribution, Mutagenesis or ExchangeMutagenesis, "
                f"but got {type(each).__name__}."
            )
    if not results:
        raise ValueError("`result` is an empty list.")
    targets = sorted({each.target for each in results})
    if len(targets) > 1:
        raise ValueError(f"`result` must be of one target, but got {targets}.")
    models = {(each.certificate.model, each.certificate.model_hash): None for each in results}
    if len(models) > 1:
        names = [f"{name} ({digest[:8]})" for name, digest in models]
        raise ValueError(f"`result` must be of one model, but are of {', '.join(names)}.")
    return results


def _window(result: AttributionLike) -> tuple[int, int]:
    return (0, len(result.sequence)) if isinstance(result, Attribution) else (result.start, result.end)


def whole_importance(result: AttributionLike) -> np.ndarray:
    """Importance (L,), with 0 outside the window."""
    start, end = _window(result)
    values = np.zeros(len(result.sequence), dtype=result.importance.dtype)
    values[start:end] = result.importance
    return values


def _recursive(results: list[AttributionLike], way: int, threshold: float, shortest: int, longest: int) -> pd.DataFrame:
    """Seqlets of one sign. Windows of each length are processed separately, as padding would change the statistics."""
    widths: dict[int, list[int]] = {}
    for row, each in enumerate(results):
        widths.setdefault(len(each.importance), []).append(row)
    parts = [_of_one_width(results, rows, way, threshold, shortest, min(longest, w)) for w, rows in widths.items()]
    return pd.concat(parts, ignore_index=True)


def _of_one_width(
    results: list[AttributionLike], rows: list[int], way: int, threshold: float, shortest: int, longest: int
) -> pd.DataFrame:
    values = np.stack([way * results[row].importance for row in rows]).astype(np.float64)
    # A span with a value this low cannot have a positive sum. Lower values would only use up histogram bins.
    values = np.maximum(values, -longest * max(values.max(), 0.0))
    columns = {"example": int, "start": int, "end": int, "attribution": float, "p_value": float}
    if longest < shortest or not values.any():
        return pd.DataFrame({name: np.empty(0, dtype=kind) for name, kind in columns.items()})
    import torch
    from tangermeme import seqlet

    keep_compiled(seqlet)
    recursive_seqlets: Any = seqlet.recursive_seqlets
    with quiet_and_same_threads():
        result = recursive_seqlets(
            torch.from_numpy(values), threshold=threshold, min_seqlet_len=shortest, max_seqlet_len=longest
        )
    result = result[result["attribution"] > 0]
    examples = np.array(rows)[result["example_idx"].to_numpy(dtype=int)]
    first = np.array([_window(each)[0] for each in results])[examples]
    table = {
        "example": examples,
        "start": first + result["start"].to_numpy(),
        "end": first + result["end"].to_numpy(),
        "attribution": way * result["attribution"].to_numpy(),
        "p_value": result["p-value"].to_numpy(),
    }
    return pd.DataFrame({name: table[name].astype(kind) for name, kind in columns.items()})


def _without_overlaps(result: pd.DataFrame) -> pd.DataFrame:
    """Remove negative seqlets that overlap a positive one."""
    example, start, end = (result[name].to_numpy() for name in ("example", "start", "end"))
    positive = result["attribution"].to_numpy() > 0
    overlaps = (example[:, None] == example) & (start[:, None] < end) & (end[:, None] > start)
    return result[positive | ~(overlaps & positive).any(axis=1)].reset_index(drop=True)

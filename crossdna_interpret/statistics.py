"""Correlations, means and their confidence intervals.

scipy has these functions, but its import takes longer than the analyses and sets warning filters.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["correlation", "mean", "pearson", "ranks"]

_NORMAL_95 = 1.959964  # standard deviations of the 95 % interval of a normal distribution


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two (N,) arrays."""
    return float(np.corrcoef(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))[0, 1])


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Pearson correlation of two (N,) arrays, with its 95 % interval by Fisher's transformation.

    NaN for fewer than four pairs or without variation.
    """
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return (math.nan,) * 3
    r = float(np.clip(pearson(x, y), -1 + 1e-12, 1 - 1e-12))
    wide = _NORMAL_95 / math.sqrt(len(x) - 3)
    return r, math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide)


def mean(values: np.ndarray, *, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Mean of the finite values of (N,), with its 95 % interval from a bootstrap.

    Without finite values all are NaN. For one value the interval is NaN.
    """
    values = values[np.isfinite(values)].astype(np.float64)
    if len(values) == 0:
        return (math.nan,) * 3
    if len(values) == 1:
        return float(values[0]), math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (N,) of values (N,), from 1 on. Equal values get their mean rank.

    The Pearson correlation of ranks is Spearman's rho.

    Example:
        >>> ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist()
        [3.5, 1.0, 3.5, 2.0]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    result: np.ndarray = (last - (counts - 1) / 2)[group]
    return result

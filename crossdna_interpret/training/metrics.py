"""Measures of how well scores agree with what was measured.

N  sequences
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import roc_auc_score

__all__ = ["auroc", "correlation", "pearson"]


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two (N,) arrays."""
    return float(np.corrcoef(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))[0, 1])


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Pearson correlation of two (N,) arrays, with its 95 % interval by Fisher's transformation.

    NaN where fewer than four pairs, or no variation, leave it open.
    """
    if len(x) < 4 or np.std(x) == 0 or np.std(y) == 0:
        return (math.nan,) * 3
    r = float(np.clip(pearson(x, y), -1 + 1e-12, 1 - 1e-12))
    wide = 1.96 / math.sqrt(len(x) - 3)
    return r, math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive (N,) bool scores higher than a negative, ties counting half; NaN without one of either."""
    return float("nan") if positive.all() or not positive.any() else float(roc_auc_score(positive, scores))

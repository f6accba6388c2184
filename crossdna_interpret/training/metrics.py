"""Area under the ROC curve."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

__all__ = ["auroc"]


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive (N,) bool scores higher than a negative, ties counting half; NaN without one of either."""
    return float("nan") if positive.all() or not positive.any() else float(roc_auc_score(positive, scores))

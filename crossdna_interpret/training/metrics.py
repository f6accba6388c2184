"""Area under the ROC curve."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

__all__ = ["auroc"]


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores higher than a negative. Ties count half.

    `positive` is (N,) bool. The result is NaN if one class is missing.
    """
    return float("nan") if positive.all() or not positive.any() else float(roc_auc_score(positive, scores))

"""Measures of predictions against a table."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import torch
from scipy import stats

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.evaluation import in_evaluation_mode
from crossdna_interpret.statistics import correlation
from crossdna_interpret.training.batches import Batches
from crossdna_interpret.training.metrics import auroc
from crossdna_interpret.training.module import UndefinedMeasureWarning, channels
from crossdna_interpret.training.supervised import require_labels, varies
from crossdna_interpret.training.tables import Table, Task

__all__ = ["evaluate", "score_table"]


@torch.no_grad()
def score_table(model: CrossDNA, table: Table, *, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, T) of a table's rows, and of their reverse complements, in evaluation mode."""
    evaluated = in_evaluation_mode(model)
    scores = [np.empty((len(table), len(model.targets)), dtype=np.float32) for _ in range(2)]
    batches = Batches(table, batch, seed=None)
    for rows, (ids, *_) in zip(batches.order(0), batches, strict=True):
        x = channels(ids.to(model.device), model.dtype)
        for kept, oriented in zip(scores, (x, strand.reverse_complement(x)), strict=True):
            kept[rows] = evaluated(oriented).float().cpu().numpy()
    return scores[0], scores[1]


def evaluate(model: CrossDNA, table: Table, *, task: Task = "regression", batch: int = 64) -> pd.DataFrame:
    """Measure how well a model predicts a table, for each target.

    Args:
        model: a model with the table's targets, in any order.
        table: rows to predict. The covariate is not used.
        task: "regression", or "classification" for targets from 0 to 1. Targets above 0.5 are positive.
        batch: rows in a batch.

    Returns:
        A row for each target. It starts with n and ends with `r_between_strands`, the correlation of the scores of the
        two orientations. Regression has Pearson r of the scores (`r`) and of their mean over both orientations
        (`r_both_strands`, with 95 % interval `low` and `high`). It also has Spearman's rho and the root mean square
        error of this mean. Classification has the area under the ROC curve, of the scores and of this mean.

    Raises:
        ValueError: the model lacks one of the table's targets, or a label is not from 0 to 1.

    Warns:
        UndefinedMeasureWarning: a target does not vary, so most of its measures are NaN.
    """
    missing = [name for name in table.target_names if name not in model.targets]
    if missing:
        raise ValueError(f"`model` {model.name} has the targets {list(model.targets)}, but not {missing}.")
    if task == "classification":
        require_labels(table, name="table")
    forward, reverse = score_table(model, table, batch=batch)
    rows = []
    for column, name in enumerate(table.target_names):
        at = model.targets.index(name)
        one, other, y = forward[:, at], reverse[:, at], table.targets[:, column]
        both = (one + other) / 2
        row: dict[str, object] = {"target": name, "n": len(y)}
        if not varies(y, task):
            needed = "two different values" if task == "regression" else "labels on both sides of 0.5"
            warnings.warn(
                f"The {len(y)} rows do not have {needed} of {name}, so how well it is predicted cannot be measured.",
                UndefinedMeasureWarning,
                stacklevel=2,
            )
        if task == "regression":
            r, low, high = correlation(both, y)
            row |= {"r": correlation(one, y)[0], "r_both_strands": r, "low": low, "high": high}
            ranked = len(y) > 2 and varies(both, task) and varies(y, task)
            row |= {"spearman": float(stats.spearmanr(both, y).statistic) if ranked else float("nan")}
            row |= {"rmse": float(np.sqrt(np.mean((both - y) ** 2)))}
        else:
            row |= {"auroc": auroc(one, y > 0.5), "auroc_both_strands": auroc(both, y > 0.5)}
        rows.append({**row, "r_between_strands": correlation(one, other)[0]})
    return pd.DataFrame(rows)

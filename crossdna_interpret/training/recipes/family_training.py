"""Training on measured sequences and on the differences between relatives.

N  sequences    L  positions    T  targets    n  rows of a batch
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.measured.pairs import close_pairs
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.batches import Rows
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.recipes.families import Families, FamilyBatch
from crossdna_interpret.training.supervised import Plain, Supervised, shifted

__all__ = ["FamilyFinetuning", "FamilyPlain", "FamilyTraining", "family_measures"]

_LARGE = 1.0  # a measured change above which its sign is counted


class FamilyTraining(Supervised):
    """Training with two terms: the Huber loss of the measurements, and that of the change between close relatives.

    A change is free of everything that relatives share, and it is what mutagenesis predicts.

    Args:
        of_changes: weight of the second term.
        mutated: fraction of bases that are replaced by random ones in training.
        settings: settings of `Supervised`. The assay has one orientation, so `symmetric` has no effect.
    """

    def __init__(self, *args: Any, of_changes: float = 1.0, mutated: float = 0.0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.of_changes, self.mutated = of_changes, mutated
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def measures(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the validation measures for which larger is better."""
        return "valid_r", "valid_r_changes", "valid_signs"

    def check(self, train: Rows, valid: Rows | None, *, batch: int, monitor: str | None) -> None:
        super().check(train, valid, batch=batch, monitor=monitor)
        if not isinstance(train, Families):
            raise ValueError(f"`train` must be Families, but is {type(train).__name__}.")

    def training_step(self, batch: FamilyBatch, batch_index: int) -> Tensor:
        ids, targets, weight, related = batch
        ids = shifted(ids, self.shift)
        if self.mutated:
            where = torch.rand(ids.shape, device=ids.device) < self.mutated
            ids = torch.where(where, torch.randint(4, ids.shape, device=ids.device, dtype=ids.dtype), ids)
        scores = self.score(self.encode(ids))
        level = _weighted_huber(scores, targets, weight)
        n = len(related)
        change = (
            _weighted_huber(
                (scores[n:] - scores[:n])[related],
                (targets[n:] - targets[:n])[related],
                (weight[n:] * weight[:n])[related],
            )
            if related.any()
            else level * 0
        )
        loss = level + self.of_changes * change
        spread = scores.detach().std(0).mean()
        self.log_dict({"train_level": level.detach(), "train_change": change.detach(), "train_spread": spread})
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: FamilyBatch, batch_index: int) -> None:
        ids, targets, _, related = batch
        n = len(related)  # the partners are rows too
        self._seen.append((ids[:n], targets[:n], self.score(self.encode(ids[:n]))))

    def on_validation_epoch_end(self) -> None:
        ids, targets, scores = (torch.cat(part).float().cpu().numpy() for part in zip(*self._seen, strict=True))
        self._seen.clear()
        family = np.zeros(len(ids), dtype=np.int64)
        measures = family_measures(scores[:, 0], targets[:, 0], close_pairs(ids.astype(np.uint8), family))
        for name, value in measures.items():
            self.log(f"valid_{name}", value, prog_bar=name == "r", sync_dist=True)
        for t in range(1, targets.shape[1]):
            self.log(f"valid_r_{t}", _r(scores[:, t], targets[:, t]), sync_dist=True)


class FamilyPlain(FamilyTraining, Plain):
    """Any module from channels (N, 5, L) to scores (N, T), trained on families."""


class FamilyFinetuning(FamilyTraining, Finetuning):
    """A `CrossDNA` trained on families."""


def family_measures(scores: np.ndarray, measured: np.ndarray, pairs: np.ndarray) -> dict[str, float]:
    """Agreement of scores (N,) with measurements (N,).

    Rows without a measurement (NaN) do not count, nor do whole numbers, which rest on few reads.

    Returns:
        `r`; `r_changes` and `changes`, of the pairs (P, 2); `signs`, the share of measured changes above 1 whose sign
        is predicted, and `large`, their number.
    """
    counted = ~np.isnan(measured) & (measured % 1 != 0)
    pairs = pairs[counted[pairs].all(1)]
    predicted, change = (each[pairs[:, 1]] - each[pairs[:, 0]] for each in (scores, measured))
    large = np.abs(change) > _LARGE
    same = np.sign(predicted[large]) == np.sign(change[large])
    return {
        "r": _r(scores[counted], measured[counted]),
        "r_changes": _r(predicted, change),
        "signs": float(same.mean()) if large.any() else float("nan"),
        "changes": float(len(pairs)),
        "large": float(large.sum()),
    }


def _r(x: np.ndarray, y: np.ndarray) -> float:
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    return pearson(x, y) if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def _weighted_huber(scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Huber loss of scores and targets (N, T), NaN left out, with weights (N,)."""
    weights = weight.unsqueeze(1) * ~targets.isnan()
    each = F.huber_loss(scores, targets.nan_to_num(), reduction="none")
    return (weights * each).sum() / weights.sum().clamp(min=1e-6)

"""Training on measured sequences and on the differences between relatives.

N  sequences    L  positions    T  targets    n  rows of a batch
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.batches import Rows
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.recipes.families import Families, FamilyBatch
from crossdna_interpret.training.supervised import Plain, Supervised, shifted

__all__ = ["FamilyFinetuning", "FamilyPlain", "FamilyTraining", "family_measures"]

_LARGE = 1.0  # a measured change above which its sign is counted


class FamilyTraining(Supervised):
    """Training with two terms: the Huber loss of the measurements, and that of the change between close relatives.

    A change is free of everything that relatives share, and it is what mutagenesis predicts.

    Args:
        of_changes: weight of the second term.
        settings: settings of `Supervised`, except that sequences are not reverse-complemented at random. With
            `symmetric`, a model of both strands scores both orientations equally.

    Raises:
        ValueError: another task than regression.
    """

    def __init__(self, *args: Any, of_changes: float = 1.0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.task != "regression":
            raise ValueError(f"`task` must be 'regression' for families, but is {self.task!r}.")
        self.of_changes = of_changes
        self._valid: Families | None = None
        self._seen: list[Tensor] = []

    @property
    def measures(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the validation measures for which larger is better."""
        return "valid_r", "valid_r_changes", "valid_signs"

    def check(self, train: Rows, valid: Rows | None, *, batch: int, monitor: str | None) -> None:
        super().check(train, valid, batch=batch, monitor=monitor)
        for name, rows in (("train", train), ("valid", valid)):
            if rows is not None and not isinstance(rows, Families):
                raise ValueError(f"`{name}` must be Families, but is {type(rows).__name__}.")
        assert isinstance(train, Families)
        assert valid is None or isinstance(valid, Families)
        if self.shift >= train.ids.shape[1]:
            raise ValueError(f"`shift` must be less than the {train.ids.shape[1]} bases, but is {self.shift}.")
        for name, column in zip(train.target_names, train.targets[train.weight > 0].T, strict=True):
            if not _varies(column):
                raise ValueError(f"`train` must have two different values of {name} with a weight above 0.")
        if valid is not None:
            self._check_families(train, valid, monitor)
        self._valid = valid

    def _check_families(self, train: Families, valid: Families, monitor: str | None) -> None:
        if valid.target_names != train.target_names:
            raise ValueError(f"`valid` must have the targets {train.target_names}, but has {valid.target_names}.")
        defined = family_measures(valid.targets[:, 0], valid.targets[:, 0], valid.pairs)
        undefined = [name for name in self.measures if math.isnan(defined[name.removeprefix("valid_")])]
        if not undefined:
            return
        problem = (
            f"The {len(valid)} rows for validation do not define {', '.join(undefined)} of {valid.target_names[0]}"
        )
        if monitor in undefined:
            raise ValueError(f"{problem}. Without it `patience` cannot tell when to stop.")
        rank_zero_warn(f"{problem}.", category=UndefinedMeasureWarning)

    def training_step(self, batch: FamilyBatch, batch_index: int) -> Tensor:
        ids, targets, weight, related = batch
        scores = self.score(self.encode(shifted(ids, self.shift)))
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
        ids, _, _, related = batch
        self._seen.append(self.score(self.encode(ids[: len(related)])))  # the partners are rows too

    def on_validation_epoch_end(self) -> None:
        assert self._valid is not None
        targets, scores = self._valid.targets, torch.cat(self._seen).float().cpu().numpy()  # in the order of the rows
        self._seen.clear()
        measures = family_measures(scores[:, 0], targets[:, 0], self._valid.pairs)
        for name, value in measures.items():
            self.log(f"valid_{name}", value, prog_bar=name == "r", sync_dist=True)
        for t in range(1, targets.shape[1]):
            of_target = family_measures(scores[:, t], targets[:, t], self._valid.pairs)
            self.log(f"valid_r_{t}", of_target["r"], sync_dist=True)


class FamilyPlain(FamilyTraining, Plain):
    """Any module from channels (N, 5, L) to scores (N, T), trained on families."""


class FamilyFinetuning(FamilyTraining, Finetuning):
    """A `CrossDNA` trained on families."""


def family_measures(scores: np.ndarray, measured: np.ndarray, pairs: np.ndarray) -> dict[str, float]:
    """Agreement of scores (N,) with measurements (N,).

    Rows without a measurement (NaN) do not count, nor do whole numbers, which rest on few reads.

    Returns:
        `r`; `r_changes` and `changes`, their number, of the pairs (P, 2), each in both directions; `signs`, the share
        of measured changes above 1 whose sign is predicted, and `large`, their number.
    """
    counted = ~np.isnan(measured) & (measured % 1 != 0)
    pairs = pairs[counted[pairs].all(1)]
    predicted, change = (each[pairs[:, 1]] - each[pairs[:, 0]] for each in (scores, measured))
    large = np.abs(change) > _LARGE
    same = np.sign(predicted[large]) == np.sign(change[large])
    return {
        "r": _r(scores[counted], measured[counted]),
        "r_changes": _r(np.concatenate([predicted, -predicted]), np.concatenate([change, -change])),
        "signs": float(same.mean()) if large.any() else float("nan"),
        "changes": float(len(pairs)),
        "large": float(large.sum()),
    }


def _r(x: np.ndarray, y: np.ndarray) -> float:
    return pearson(x, y) if _varies(x) and _varies(y) else float("nan")


def _varies(values: np.ndarray) -> bool:
    """Whether there are two different values, without NaN."""
    known = values[~np.isnan(values)]
    return len(known) > 1 and bool(np.ptp(known) > 0)


def _weighted_huber(scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Huber loss of scores and targets (N, T), NaN left out, with weights (N,)."""
    weights = weight.unsqueeze(1) * ~targets.isnan()
    each = F.huber_loss(scores, targets.nan_to_num(), reduction="none")
    return (weights * each).sum() / weights.sum().clamp(min=1e-6)

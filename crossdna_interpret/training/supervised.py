"""Supervised training, shared by all models, as a Lightning module.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.batches import Rows
from crossdna_interpret.training.metrics import auroc
from crossdna_interpret.training.module import SeededModule, UndefinedMeasureWarning, channels, decayed, require_seed
from crossdna_interpret.training.tables import PADDING, Batch, Table, Task

__all__ = ["Plain", "Supervised", "Task", "by_length", "require_labels", "shifted", "varies"]


class Supervised(SeededModule):
    """Training with a weighted loss of score(sequence) + offset(level of the covariate).

    Measurements of different libraries or batches differ in normalisation. So each level has an offset, which is
    learned with the model and not used for inference.

    Args:
        task: "regression" for squared errors, or "classification" for cross-entropy. In the latter, scores are log-odds
            and targets are from 0 to 1.
        offsets: (levels, T) initial offset of each level of the covariate, such as its mean minus the overall mean.
        learning_rate: peak of a one-cycle schedule over the whole run.
        weight_decay: weight decay of AdamW, on matrices only, and not on the offsets.
        seed: seed of dropout and augmentation.
        symmetric: whether the model scores both orientations equally. If not, the orientation of each training sequence
            is random.
        shift: largest random shift of a sequence in positions, in both directions. The gap is filled with N.

    Raises:
        ValueError: the seed is out of range, or the shift is negative.
    """

    def __init__(
        self,
        *,
        task: Task = "regression",
        offsets: Tensor,
        learning_rate: float,
        weight_decay: float,
        seed: int = 0,
        symmetric: bool = False,
        shift: int = 0,
    ) -> None:
        super().__init__()
        if shift < 0:
            raise ValueError(f"`shift` must be at least 0, but is {shift}.")
        self.task = task
        self.offset = nn.Embedding.from_pretrained(offsets, freeze=len(offsets) == 1)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.seed, self.symmetric, self.shift = require_seed(seed), symmetric, shift
        self._validated: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Features (N, H) from channels (N, 5, L). They depend on each sequence separately."""

    @abstractmethod
    def readout(self, features: Tensor) -> Tensor:
        """Scores (N, T) from the features (N, H) of a whole batch."""

    def score(self, x: Tensor) -> Tensor:
        """Scores (N, T) from channels (N, 5, L)."""
        return self.readout(self.features(x))

    @property
    def measures(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the validation measures for which larger is better."""
        if self.task == "classification":
            return ("valid_auroc",)
        return "valid_r", "valid_r_both_strands", "valid_r_both_strands_with_covariate"

    def check(self, train: Rows, valid: Rows | None, *, batch: int, monitor: str | None) -> None:
        super().check(train, valid, batch=batch, monitor=monitor)
        if isinstance(train, Table):
            self._check_training(train)
        if isinstance(valid, Table):
            self._check_validation(valid, monitor)

    def _check_training(self, table: Table) -> None:
        if self.task == "classification":
            require_labels(table, name="train")
        if self.shift >= table.lengths.min():
            raise ValueError(
                f"`shift` must be less than the shortest sequence, which has {table.lengths.min()} bases, but is "
                f"{self.shift}."
            )
        counted = table.weight > 0
        if not counted.any():
            raise ValueError("`train` must have rows with a weight above 0.")
        targets = table.targets[counted]
        constant = [name for name, column in zip(table.target_names, targets.T, strict=True) if _constant(column)]
        if len(constant) == len(table.target_names):
            raise ValueError(
                f"`train` must have targets that vary, but {', '.join(constant)} has one value in all {len(targets)} "
                "rows: there is nothing to learn."
            )
        if constant:
            rank_zero_warn(f"{', '.join(constant)} has one value in all training rows.", category=UserWarning)

    def _check_validation(self, table: Table, monitor: str | None) -> None:
        if self.task == "classification":
            require_labels(table, name="valid")
        undefined = [
            name
            for name, column in zip(table.target_names, table.targets.T, strict=True)
            if not varies(column, self.task)
        ]
        if not undefined:
            return
        needed = "two different values" if self.task == "regression" else "labels on both sides of 0.5"
        problem = (
            f"The {len(table)} rows for validation do not have {needed} of {', '.join(undefined)}, so "
            f"{', '.join(self.measures)} cannot be measured"
        )
        if len(undefined) < len(table.target_names):
            rank_zero_warn(f"{problem} there and are means of the other targets.", category=UndefinedMeasureWarning)
        elif monitor is None:
            rank_zero_warn(f"{problem}.", category=UndefinedMeasureWarning)
        else:
            raise ValueError(f"{problem}. Without them `patience` cannot tell when to stop.")

    def loss(self, scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Loss of scores and targets (N, T) with weights (N,): weighted mean over rows, then mean over targets."""
        if self.task == "regression":
            each = (scores - targets).square()
        else:
            each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)  # rows without weight have no loss
        return (weight.unsqueeze(1) * each).sum() / (total * targets.shape[1])

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        ids, targets, weight, level = batch
        features = torch.cat([self.features(self._augmented(rows)) for rows in by_length(ids)])
        loss = self.loss(self.readout(features) + self.offset(level), targets, weight)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def _augmented(self, ids: Tensor) -> Tensor:
        """Channels (N, 5, L) of ids (N, L), randomly shifted and, unless `symmetric`, randomly reverse-complemented."""
        x = self.encode(shifted(ids, self.shift))
        if self.symmetric:
            return x
        reverse = torch.rand(len(x), 1, 1, device=x.device) < 0.5
        return torch.where(reverse, strand.reverse_complement(x), x)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        ids, targets, _, level = batch
        x = self.encode(ids)
        forward = self.score(x)
        reverse = forward if self.symmetric else self.score(strand.reverse_complement(x))
        self._validated.append((forward, reverse, targets, self.offset(level)))

    def on_validation_epoch_end(self) -> None:
        parts = (torch.cat(part).float().cpu() for part in zip(*self._validated, strict=True))
        forward, reverse, targets, offset = parts
        self._validated.clear()
        both = (forward + reverse) / 2
        self.log("valid_loss", self.loss(both + offset, targets, torch.ones_like(targets[:, 0])), sync_dist=True)
        pairs: dict[str, tuple[Callable[..., float], Tensor, Tensor]] = {
            "valid_r": (_r, forward, targets),
            "valid_r_both_strands": (_r, both, targets),
            "valid_r_both_strands_with_covariate": (_r, both + offset, targets),
            "valid_r_between_strands": (_r, forward, reverse),
        }
        if self.task == "classification":
            pairs = {"valid_auroc": (auroc, both, targets > 0.5)}
        measured = [t for t, column in enumerate(targets.T) if varies(column.numpy(), self.task)]
        for name, (measure, x, y) in pairs.items():
            of_targets = [measure(x[:, t].numpy(), y[:, t].numpy()) for t in measured]
            shown = name in ("valid_r_both_strands", "valid_auroc")
            self.log(name, float(np.mean(of_targets or np.nan)), prog_bar=shown, sync_dist=True)

    def undecayed(self) -> list[Tensor]:
        """Matrices without weight decay."""
        return [self.offset.weight]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            decayed(self, self.weight_decay, free=self.undecayed()), lr=self.learning_rate
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def encode(self, ids: Tensor) -> Tensor:
        """Channels (N, 5, L) of ids (N, L), in the type of the weights."""
        return channels(ids, self.offset.weight.dtype)


class Plain(Supervised):
    """Any module from channels (N, 5, L) to scores (N, T), trained in the same way as CrossDNA models.

    Args:
        model: the module.
        settings: settings of `Supervised`.
    """

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        super().__init__(**settings)
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(x)
        return scores

    def readout(self, features: Tensor) -> Tensor:
        return features


def by_length(ids: Tensor) -> list[Tensor]:
    """Split ids (N, L) from `Table.batch` into parts (n, L) of equal length without padding, in the same order.

    Rows of one length should be adjacent. Otherwise there are more parts than lengths.

    Example:
        >>> [rows.tolist() for rows in by_length(torch.tensor([[0, 1, 255], [2, 3, 255], [0, 1, 2]]))]
        [[[0, 1], [2, 3]], [[0, 1, 2]]]
    """
    lengths, counts = torch.unique_consecutive((ids != PADDING).sum(1), return_counts=True)
    parts = ids.split(counts.tolist())
    return [rows[:, :length] for rows, length in zip(parts, lengths.tolist(), strict=True)]


def require_labels(table: Table, *, name: str) -> None:
    """Check that a table's targets are from 0 to 1.

    Raises:
        ValueError: a target is out of range. The message has its column and row (1-based).
    """
    bad = np.argwhere((table.targets < 0) | (table.targets > 1))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"`{name}` must have labels from 0 to 1 for classification, but {table.target_names[column]} is "
            f"{table.targets[row, column]:g} in row {row + 1}."
        )


def varies(targets: np.ndarray, task: Task) -> bool:
    """Whether targets (N,) vary: at least two values, or labels on both sides of 0.5."""
    return not _constant(targets > 0.5 if task == "classification" else targets)


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())


def _r(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two (N,) arrays. NaN if one of them is constant."""
    return float("nan") if _constant(x) or _constant(y) else pearson(x, y)


def shifted(ids: Tensor, most: int) -> Tensor:
    """Shift ids (N, L) by up to `most` positions in a random direction, all by the same. The gap is filled with N."""
    by = int(torch.randint(-most, most + 1, ()))
    if not by:
        return ids
    moved = ids.roll(by, dims=1)
    moved[:, slice(by) if by > 0 else slice(by, None)] = alphabet.N_ID
    return moved

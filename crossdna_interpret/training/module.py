"""The base of the training modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet
from crossdna_interpret.training.batches import Rows

__all__ = ["SeededModule", "UndefinedMeasureWarning", "channels", "decayed", "require_seed"]

_SEEDS = 2**32  # PyTorch's CPU generator uses 32 bits of a seed and ignores the others


class UndefinedMeasureWarning(UserWarning):
    """A validation measure is NaN, such as a correlation with constant values."""


class SeededModule(lightning.LightningModule):
    """A module whose randomness in a step depends only on the seed, the step number and the process.

    So a run that continues gives the same result as without a stop.

    Attributes:
        seed: seed of the whole run.
        total_steps: optimizer steps of the whole run, for the learning rate schedule. `run.fit` sets it.
        measures: names of the validation measures for which larger is better.
        smallest_batch: smallest number of rows from which a step can learn.
    """

    seed: int
    total_steps: int
    measures: tuple[str, ...] = ()
    smallest_batch: int = 1

    def check(self, train: Rows, valid: Rows | None, *, batch: int, monitor: str | None) -> None:
        """Check before a run that this module can learn from the training rows and be measured on the validation rows.

        Args:
            train, valid: the rows.
            batch: rows in a step.
            monitor: the measure for early stopping, or None.

        Raises:
            ValueError: the rows are not suitable.
        """
        for name, count in (("batch", batch), ("train", len(train))):
            if count < self.smallest_batch:
                raise ValueError(f"`{name}` must be at least {self.smallest_batch} rows, but got {count}.")
        if monitor is None:
            return
        if valid is None:
            raise ValueError("`patience` needs rows for validation, but there are none.")
        if monitor not in self.measures:
            raise ValueError(f"`monitor` must be one of {', '.join(self.measures)}, but is {monitor!r}.")

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        step = np.random.SeedSequence([self.seed, self.global_step, self.global_rank])
        torch.manual_seed(int(step.generate_state(1, np.uint64)[0]))


def require_seed(seed: int) -> int:
    """Check a seed and return it.

    Raises:
        ValueError: the seed is out of range, so PyTorch would use another one.
    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"`seed` must be from 0 to {_SEEDS - 1:,}, but is {seed}.")
    return seed


def channels(ids: Tensor, dtype: torch.dtype) -> Tensor:
    """One-hot channels (N, 5, L) of ids (N, L)."""
    return F.one_hot(ids.long(), len(alphabet.ALPHABET)).transpose(1, 2).to(dtype)


def decayed(module: nn.Module, weight_decay: float, *, free: Sequence[Tensor] = ()) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices have weight decay, except those in `free`. Other parameters have none."""
    exempt = {id(p) for p in free}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (others if parameter.ndim < 2 or id(parameter) in exempt else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]

"""What the training modules have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import alphabet

__all__ = ["SeededModule", "channels", "decayed"]


class SeededModule(lightning.LightningModule):
    """Whatever is random in a step depends on the seed, the number of the step and the process alone.

    So a run that goes on does what it would have done.

    Attributes:
        seed: of the whole run.
        total_steps: optimizer steps of the whole run, for the schedule of the learning rate; `run.fit` sets it.
    """

    seed: int
    total_steps: int

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        torch.manual_seed((self.seed << 32) + self.global_step * self.trainer.world_size + self.global_rank)


def channels(ids: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, 5, L) one-hot of ids (N, L)."""
    return F.one_hot(ids.long(), len(alphabet.ALPHABET)).transpose(1, 2).to(dtype)


def decayed(module: nn.Module, weight_decay: float, *, free: Sequence[Tensor] = ()) -> list[dict[str, Any]]:
    """Groups of a module's parameters for AdamW: its matrices with weight decay, but for `free`; the rest without."""
    exempt = {id(p) for p in free}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (others if parameter.ndim < 2 or id(parameter) in exempt else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]

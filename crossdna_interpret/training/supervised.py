"""Training on measured sequences: what is the same for every model, in a Lightning module.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import alphabet, strand
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.metrics import auroc
from crossdna_interpret.training.module import SeededModule, channels, decayed
from crossdna_interpret.training.tables import Batch

__all__ = ["Plain", "Supervised", "Task", "shifted"]

Task = Literal["regression", "classification"]


class Supervised(SeededModule):
    """Weighted loss of score(sequence) + offset(level of the covariate).

    Measurements of different libraries or batches differ in normalisation, so each level has an offset, learned beside
    the model and dropped at inference.

    Args:
        task: "regression" for squared errors; "classification" for cross-entropy of scores that are log-odds, with
            targets from 0 to 1.
        offsets: (levels, T) initial offset of each level of the covariate, such as its mean less the overall mean.
        learning_rate: peak of a one-cycle schedule over the whole run.
        weight_decay: of AdamW, on matrices only, and not on the offsets.
        seed: of dropout and augmentation.
        symmetric: the model scores both orientations alike. Otherwise each training sequence is shown as it is or as
            its reverse complement, by a coin.
        shift: positions by which a batch is moved at most, either way; the gap is filled with N.
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
        self.task = task
        self.offset = nn.Embedding.from_pretrained(offsets, freeze=len(offsets) == 1)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.seed, self.symmetric, self.shift = seed, symmetric, shift
        self._validated: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """(N, T) of channels (N, 5, L)."""

    def loss(self, scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Mean over targets of the weighted mean over rows, of scores and targets (N, T) and weights (N,)."""
        if self.task == "regression":
            each = (scores - targets).square()
        else:
            each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return (weight.unsqueeze(1) * each).sum() / (weight.sum() * targets.shape[1])

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        ids, targets, weight, level = batch
        x = self.encode(shifted(ids, self.shift))
        if not self.symmetric:
            turned = torch.rand(len(x), 1, 1, device=x.device) < 0.5
            x = torch.where(turned, strand.reverse_complement(x), x)
        loss = self.loss(self.score(x) + self.offset(level), targets, weight)
        self.log("train_loss", loss, prog_bar=True)
        return loss

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
        if len(targets) < 2:
            return
        found: dict[str, tuple[Callable[..., float], Tensor, Tensor]] = {
            "valid_r": (pearson, forward, targets),
            "valid_r_both_strands": (pearson, both, targets),
            "valid_r_both_strands_with_covariate": (pearson, both + offset, targets),
            "valid_r_between_strands": (pearson, forward, reverse),
        }
        if self.task == "classification":
            found = {"valid_auroc": (auroc, both, targets > 0.5)}
        for name, (measure, x, y) in found.items():
            of_targets = [measure(x[:, t].numpy(), y[:, t].numpy()) for t in range(x.shape[1])]
            shown = name in ("valid_r_both_strands", "valid_auroc")
            self.log(name, float(np.mean(of_targets)), prog_bar=shown, sync_dist=True)

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
    """Any module from channels (N, 5, L) to scores (N, T), trained as a CrossDNA is.

    Args:
        model: the module.
        settings: those of `Supervised`.
    """

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        super().__init__(**settings)
        self.model = model

    def score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(x)
        return scores


def shifted(ids: Tensor, most: int) -> Tensor:
    """Ids (N, L) moved by up to `most` positions either way, all alike; the gap is filled with N."""
    by = int(torch.randint(-most, most + 1, ()))
    if not by:
        return ids
    moved = ids.roll(by, dims=1)
    moved[:, slice(by) if by > 0 else slice(by, None)] = alphabet.N_ID
    return moved

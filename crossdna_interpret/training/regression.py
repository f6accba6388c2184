"""Fine-tuning for regression: a Lightning module around a `CrossDNA`, with a covariate that stays out of the model."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import strand
from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["Regression", "pearson"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def pearson(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two (N,) tensors."""
    return float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1])


class Regression(lightning.LightningModule):
    """Weighted squared error of activity = model(sequence) + offset(library).

    Libraries differ in normalisation, so each has an offset, learned beside the model and dropped at inference. Each
    training sequence is shown as it is or as its reverse complement, by a coin.

    Args:
        model: with one target.
        offsets: (libraries,) initial offset of each level of the covariate, such as its mean less the overall mean.
        learning_rate: peak of a one-cycle schedule over the whole run.
        weight_decay: of AdamW, on matrices only.
        total_steps: optimizer steps of the whole run.
    """

    def __init__(
        self, model: CrossDNA, *, offsets: Tensor, learning_rate: float, weight_decay: float, total_steps: int
    ) -> None:
        super().__init__()
        self.model = model
        self.offset = nn.Embedding.from_pretrained(offsets.unsqueeze(1), freeze=False)
        self.learning_rate, self.weight_decay, self.total_steps = learning_rate, weight_decay, total_steps
        self._validated: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def _encode(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids.long(), 5).transpose(1, 2).to(self.model.dtype)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        ids, activity, weight, library = batch
        x = self._encode(ids)
        turned = torch.rand(len(x), 1, 1, device=x.device) < 0.5
        x = torch.where(turned, strand.reverse_complement(x), x)
        predicted = (self.model(x) + self.offset(library)).squeeze(1)
        loss = (weight * (predicted - activity).square()).sum() / weight.sum()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        ids, activity, _, library = batch
        x = self._encode(ids)
        forward, reverse = self.model(x).squeeze(1), self.model(strand.reverse_complement(x)).squeeze(1)
        self._validated.append((forward, reverse, activity, self.offset(library).squeeze(1)))

    def on_validation_epoch_end(self) -> None:
        forward, reverse, activity, offset = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        both = (forward + reverse) / 2
        self.log("valid_r", pearson(forward, activity), prog_bar=True)
        self.log("valid_r_both_strands", pearson(both, activity))
        self.log("valid_r_both_strands_with_library", pearson(both + offset, activity))
        self.log("valid_r_between_strands", pearson(forward, reverse))

    def configure_optimizers(self) -> Any:
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1] + [self.offset.weight]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

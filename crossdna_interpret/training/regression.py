"""Fine-tuning for regression: a Lightning module around a `CrossDNA`, with a covariate that stays out of the model."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import alphabet, strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.swap import symmetrized

__all__ = ["Regression", "pearson"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def pearson(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two (N,) tensors."""
    return float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1])


class Regression(lightning.LightningModule):
    """Weighted squared error of activity = model(sequence) + offset(library).

    Libraries differ in normalisation, so each has an offset, learned beside the model and dropped at inference.

    While it trains, the pooled representation is normalised over the batch: what all positions and sequences have in
    common is many times what they have not, and without this the head learns nothing for thousands of steps. `fold`
    moves the normalisation into the head, which is linear.

    Args:
        model: with one target.
        symmetric: keep both branches each other's mirror image, so that the model scores both orientations of a block
            alike. Otherwise each training sequence is shown as it is or as its reverse complement, by a coin.
        shift: positions by which a batch is moved at most, either way; the gap is filled with N.
        offsets: (libraries,) initial offset of each level of the covariate, such as its mean less the overall mean.
        learning_rate: peak of a one-cycle schedule over the whole run.
        weight_decay: of AdamW, on matrices only, and not on the head.
        total_steps: optimizer steps of the whole run.
    """

    def __init__(
        self,
        model: CrossDNA,
        *,
        offsets: Tensor,
        learning_rate: float,
        weight_decay: float,
        total_steps: int,
        symmetric: bool = False,
        shift: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.pooled_norm = nn.BatchNorm1d(model.config.d_model)
        self.symmetric, self.shift = symmetric, shift
        if symmetric:
            model.load_state_dict(symmetrized(model.state_dict(), keep="branch_a"))
        self.offset = nn.Embedding.from_pretrained(offsets.unsqueeze(1), freeze=False)
        self.learning_rate, self.weight_decay, self.total_steps = learning_rate, weight_decay, total_steps
        self._validated: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def _encode(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids.long(), 5).transpose(1, 2).to(self.model.dtype)

    def _shifted(self, ids: Tensor) -> Tensor:
        by = int(torch.randint(-self.shift, self.shift + 1, ()))
        if not by:
            return ids
        moved = ids.roll(by, dims=1)
        moved[:, slice(by) if by > 0 else slice(by, None)] = alphabet.N_ID
        return moved

    def score(self, x: Tensor) -> Tensor:
        """(N, 1) of channels (N, 5, L), with the pooled representation normalised."""
        assert self.model.head is not None
        pooled = self.model.represent(x, strand.reverse_complement(x)).mean(1)
        scores: Tensor = self.model.head.linear(self.pooled_norm(pooled))
        return scores

    @torch.no_grad()
    def fold(self) -> None:
        """Move the normalisation of the pooled representation, as evaluation has it, into the head; to be done once."""
        assert self.model.head is not None
        norm, linear = self.pooled_norm, self.model.head.linear
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        linear.bias.add_(linear.weight @ (norm.bias - scale * norm.running_mean))
        linear.weight.mul_(scale)
        norm.reset_running_stats()
        norm.reset_parameters()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep a symmetric model so: its gradients are those of both orientations of the batch, at no cost."""
        if not self.symmetric:
            return
        known = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        gradients = {name: p.grad for name, p in known.items() if p.grad is not None}
        for name, gradient in symmetrized(gradients, keep="both").items():
            known[name].grad = gradient

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        ids, activity, weight, library = batch
        x = self._encode(self._shifted(ids))
        if not self.symmetric:
            turned = torch.rand(len(x), 1, 1, device=x.device) < 0.5
            x = torch.where(turned, strand.reverse_complement(x), x)
        predicted = (self.score(x) + self.offset(library)).squeeze(1)
        loss = (weight * (predicted - activity).square()).sum() / weight.sum()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        ids, activity, _, library = batch
        x = self._encode(ids)
        forward = self.score(x).squeeze(1)
        reverse = forward if self.symmetric else self.score(strand.reverse_complement(x)).squeeze(1)
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
        assert self.model.head is not None
        free = [self.offset.weight, self.model.head.linear.weight, *self.pooled_norm.parameters()]
        matrices = [p for p in self.model.parameters() if p.ndim > 1 and p is not free[1]]
        others = [p for p in self.model.parameters() if p.ndim <= 1] + free
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

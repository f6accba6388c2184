"""Fine-tuning for regression or classification: a Lightning module around a `CrossDNA` with a head.

N  sequences    L  positions    H  channels    T  targets
"""

from __future__ import annotations

from typing import Any, Literal

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import alphabet, strand
from crossdna_interpret.models.crossdna.model import CrossDNA, Head
from crossdna_interpret.models.crossdna.swap import symmetrized
from crossdna_interpret.training.tables import Batch, Batches, Table

__all__ = ["Finetuning", "Task", "pearson"]

Task = Literal["regression", "classification"]


def pearson(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two (N,) tensors."""
    return float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1])


class Centred(nn.Module):
    """x (N, H) less its mean over the batch, times a gain; in evaluation, less a running mean."""

    mean: Tensor

    def __init__(self, width: int, gain: float = 10.0, momentum: float = 0.05) -> None:
        super().__init__()
        self.gain, self.momentum = gain, momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return (x - self.mean) * self.gain
        mean = x.mean(0)
        self.mean.lerp_(mean.detach(), self.momentum)
        return (x - mean) * self.gain


class Finetuning(lightning.LightningModule):
    """Weighted loss of model(sequence) + offset(level of the covariate).

    Measurements of different libraries or batches differ in normalisation, so each level has an offset, learned beside
    the model and dropped at inference.

    While it trains, the pooled representation is centred over the batch: what all positions and sequences have in
    common is many times what they have not, and its noise drowns the gradient, so that without this nothing is learned
    for thousands of steps. It is not divided by its deviation, or nothing would keep that from fading. `fold` moves the
    centring into the head, which is linear.

    Whatever is random in a step depends on the seed and the number of the step alone.

    Args:
        model: with a head.
        task: "regression" for squared errors; "classification" for cross-entropy of scores that are log-odds, with
            targets from 0 to 1.
        offsets: (levels, T) initial offset of each level of the covariate, such as its mean less the overall mean.
        learning_rate: peak of a one-cycle schedule over the whole run.
        weight_decay: of AdamW, on matrices only, and not on the head.
        total_steps: optimizer steps of the whole run.
        seed: of dropout and augmentation.
        symmetric: keep both branches each other's mirror image, so that the model scores both orientations of a block
            alike. Otherwise each training sequence is shown as it is or as its reverse complement, by a coin.
        shift: positions by which a batch is moved at most, either way; the gap is filled with N.

    Raises:
        ValueError: the model has no head, or offsets of another number of targets.
    """

    def __init__(
        self,
        model: CrossDNA,
        *,
        task: Task = "regression",
        offsets: Tensor,
        learning_rate: float,
        weight_decay: float,
        total_steps: int,
        seed: int = 0,
        symmetric: bool = False,
        shift: int = 0,
    ) -> None:
        super().__init__()
        if model.head is None:
            raise ValueError("`model` must have a head: give it `targets`.")
        if offsets.ndim != 2 or offsets.shape[1] != len(model.targets):
            raise ValueError(f"`offsets` must be (levels, {len(model.targets)}), but are {tuple(offsets.shape)}.")
        self.model = model
        self.task = task
        self.centred = Centred(model.config.d_model)
        self.offset = nn.Embedding.from_pretrained(offsets, freeze=len(offsets) == 1)
        self.learning_rate, self.weight_decay, self.total_steps = learning_rate, weight_decay, total_steps
        self.seed, self.symmetric, self.shift = seed, symmetric, shift
        if symmetric:
            model.load_state_dict(symmetrized(model.state_dict(), keep="branch_a"))
        self._validated: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def head(self) -> Head:
        """The model's."""
        assert self.model.head is not None
        return self.model.head

    def score(self, x: Tensor) -> Tensor:
        """(N, T) of channels (N, 5, L), with the pooled representation centred."""
        pooled = self.model.represent(x, strand.reverse_complement(x)).mean(1)
        scores: Tensor = self.head.linear(self.centred(pooled))
        return scores

    @torch.no_grad()
    def fold(self) -> None:
        """Move the centring of the pooled representation, as evaluation has it, into the head; to be done once."""
        linear = self.head.linear
        linear.weight.mul_(self.centred.gain)
        linear.bias.sub_(linear.weight @ self.centred.mean)
        self.centred.mean.zero_()
        self.centred.gain = 1.0

    @torch.no_grad()
    def recentre(self, table: Table, rows: int = 2048) -> None:
        """Let evaluation's mean be that of rows spread over a table, with the weights as they are now.

        The running mean is that of the weights of the last steps, not of their average.
        """
        chosen = table.rows(np.unique(np.linspace(0, len(table) - 1, min(rows, len(table))).astype(np.int64)))
        was_training = self.training
        self.eval()
        total, count = torch.zeros_like(self.centred.mean, dtype=torch.float64), 0
        for ids, *_ in Batches(chosen, 64, seed=None):
            x = self._encode(ids.to(self.device))
            for turned in (x, strand.reverse_complement(x)):
                pooled = self.model.represent(turned, strand.reverse_complement(turned)).mean(1)
                total += pooled.sum(0, dtype=torch.float64)
                count += len(pooled)
        self.centred.mean.copy_(total / count)
        self.train(was_training)

    def loss(self, scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Mean over targets of the weighted mean over rows, of scores and targets (N, T) and weights (N,)."""
        if self.task == "regression":
            each = (scores - targets).square()
        else:
            each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return (weight.unsqueeze(1) * each).sum() / (weight.sum() * targets.shape[1])

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Seed this step, so that a run that goes on does what it would have done."""
        torch.manual_seed((self.seed << 32) + self.global_step * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        ids, targets, weight, level = batch
        x = self._encode(self._shifted(ids))
        if not self.symmetric:
            turned = torch.rand(len(x), 1, 1, device=x.device) < 0.5
            x = torch.where(turned, strand.reverse_complement(x), x)
        loss = self.loss(self.score(x) + self.offset(level), targets, weight)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep a symmetric model so: its gradients are those of both orientations of the batch, at no cost."""
        if not self.symmetric:
            return
        known = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        gradients = {name: p.grad for name, p in known.items() if p.grad is not None}
        for name, gradient in symmetrized(gradients, keep="both").items():
            known[name].grad = gradient

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        ids, targets, _, level = batch
        x = self._encode(ids)
        forward = self.score(x)
        reverse = forward if self.symmetric else self.score(strand.reverse_complement(x))
        self._validated.append((forward, reverse, targets, self.offset(level)))

    def on_validation_epoch_end(self) -> None:
        forward, reverse, targets, offset = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        both = (forward + reverse) / 2
        self.log("valid_loss", self.loss(both + offset, targets, torch.ones_like(targets[:, 0])), sync_dist=True)
        if len(targets) < 2:
            return
        found = {
            "valid_r": (forward, targets),
            "valid_r_both_strands": (both, targets),
            "valid_r_both_strands_with_covariate": (both + offset, targets),
            "valid_r_between_strands": (forward, reverse),
        }
        for name, (x, y) in found.items():
            mean = sum(pearson(x[:, t], y[:, t]) for t in range(x.shape[1])) / x.shape[1]
            self.log(name, mean, prog_bar=name == "valid_r_both_strands", sync_dist=True)

    def configure_optimizers(self) -> Any:
        free = [self.head.linear.weight]
        if self.offset.weight.requires_grad:
            free.append(self.offset.weight)
        matrices = [p for p in self.model.parameters() if p.ndim > 1 and p is not free[0]]
        others = [p for p in self.model.parameters() if p.ndim <= 1] + free
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _encode(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids.long(), len(alphabet.ALPHABET)).transpose(1, 2).to(self.model.dtype)

    def _shifted(self, ids: Tensor) -> Tensor:
        by = int(torch.randint(-self.shift, self.shift + 1, ()))
        if not by:
            return ids
        moved = ids.roll(by, dims=1)
        moved[:, slice(by) if by > 0 else slice(by, None)] = alphabet.N_ID
        return moved

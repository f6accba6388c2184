"""Fine-tuning for regression or classification: a Lightning module around a `CrossDNA` with a head.

N  sequences    L  positions    H  channels    T  targets
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA, Head
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.training.batches import Batches
from crossdna_interpret.training.supervised import Supervised
from crossdna_interpret.training.tables import Table

__all__ = ["Finetuning"]


class Centred(nn.Module):
    """x (N, H) less its mean over the batch, times a gain; in evaluation, less a running mean."""

    mean: Tensor

    def __init__(self, width: int, gain: float = 10.0, momentum: float = 0.05) -> None:
        super().__init__()
        self.gain, self.momentum = gain, momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.mean.dtype)  # what is centred is a small difference, which half precision would round away
        if not self.training:
            return (x - self.mean) * self.gain
        mean = x.mean(0)
        self.mean.lerp_(mean.detach(), self.momentum)
        return (x - mean) * self.gain


class Finetuning(Supervised):
    """A `CrossDNA` on measured sequences.

    While it trains, the pooled representation is centred over the batch: what all positions and sequences have in
    common is many times what they have not, and its noise drowns the gradient, so that without this nothing is learned
    for thousands of steps. It is not divided by its deviation, or nothing would keep that from fading. `fold` moves the
    centring into the head, which is linear. A batch of a single row has nothing that it does not share, so it teaches
    nothing.

    Args:
        model: with a head.
        settings: those of `Supervised`. With `symmetric`, both branches are kept each other's mirror image, so that the
            model scores both orientations of a block alike.

    Raises:
        ValueError: the model has no head, or offsets of another number of targets.
    """

    smallest_batch = 2

    def __init__(self, model: CrossDNA, *, offsets: Tensor, **settings: Any) -> None:
        if model.head is None:
            raise ValueError("`model` must have a head: give it `targets`.")
        if offsets.ndim != 2 or offsets.shape[1] != len(model.targets):
            raise ValueError(f"`offsets` must be (levels, {len(model.targets)}), but are {tuple(offsets.shape)}.")
        super().__init__(offsets=offsets, **settings)
        self.model = model
        self.centred = Centred(model.config.d_model)
        if self.symmetric:
            model.load_state_dict(symmetrized(model.state_dict(), keep="branch_a"))

    @property
    def head(self) -> Head:
        """The model's."""
        assert self.model.head is not None
        return self.model.head

    def features(self, x: Tensor) -> Tensor:
        """Pooled representation (N, H) of channels (N, 5, L)."""
        return self.model.represent(x, strand.reverse_complement(x)).mean(1)

    def readout(self, features: Tensor) -> Tensor:
        scores: Tensor = self.head.linear(self.centred(features))
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
            x = self.encode(ids.to(self.device))
            for reverse in (x, strand.reverse_complement(x)):
                pooled = self.features(reverse)
                total += pooled.sum(0, dtype=torch.float64)
                count += len(pooled)
        self.centred.mean.copy_(total / count)
        self.train(was_training)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep a symmetric model so: its gradients are those of both orientations of the batch, at no cost."""
        if not self.symmetric:
            return
        known = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        gradients = {name: p.grad for name, p in known.items() if p.grad is not None}
        for name, gradient in symmetrized(gradients, keep="both").items():
            known[name].grad = gradient

    def undecayed(self) -> list[Tensor]:
        return [*super().undecayed(), self.head.linear.weight]

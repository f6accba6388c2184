"""Fine-tuning for regression or classification: a Lightning module around a `CrossDNA` with a head.

N  sequences    L  positions    H  channels    T  targets
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA, Head
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.training.batches import Batches, Rows
from crossdna_interpret.training.supervised import Supervised

__all__ = ["Finetuning"]


class _Selectable(Rows, Protocol):
    """Rows from which some can be taken."""

    def rows(self, index: np.ndarray) -> Rows: ...


class Centred(nn.Module):
    """x (N, H) minus its mean over the batch, times a gain. In evaluation mode, the mean is a running mean."""

    mean: Tensor

    def __init__(self, width: int, gain: float = 10.0, momentum: float = 0.05) -> None:
        super().__init__()
        self.gain, self.momentum = gain, momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.mean.dtype)  # the centred values are small differences, too small for half precision
        if not self.training:
            return (x - self.mean) * self.gain
        mean = x.mean(0)
        self.mean.lerp_(mean.detach(), self.momentum)
        return (x - mean) * self.gain


class Finetuning(Supervised):
    """A `CrossDNA` on measured sequences.

    During training, the pooled representation is centred over the batch. The part that all positions and sequences
    share is many times larger than their differences, and its noise hides the gradient. Without centring, the model
    learns nothing for thousands of steps. There is no division by the standard deviation, because the deviation could
    then shrink without limit. `fold` moves the centring into the linear head. From a batch of a single row nothing can
    be learned.

    Args:
        model: a model with a head.
        settings: settings of `Supervised`. With `symmetric`, both branches are kept mirror images of each other, so
            that the model scores both orientations of a block equally.

    Raises:
        ValueError: the model has no head, or the offsets have another number of targets.
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
        """Head of the model."""
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
        """Move the centring of evaluation mode into the head. Call this only once."""
        linear = self.head.linear
        linear.weight.mul_(self.centred.gain)
        linear.bias.sub_(linear.weight @ self.centred.mean)
        self.centred.mean.zero_()
        self.centred.gain = 1.0

    @torch.no_grad()
    def recentre(self, table: _Selectable, rows: int = 2048, *, both_orientations: bool = True) -> None:
        """Set the mean of evaluation mode to that of rows spread over a table, for the current weights.

        This is needed for averaged weights, because the running mean belongs to the weights of the last steps.

        Args:
            table: the training rows.
            rows: number of rows.
            both_orientations: whether reverse complements count too. Not for a model that was trained in one
                orientation.
        """
        chosen = table.rows(np.unique(np.linspace(0, len(table) - 1, min(rows, len(table))).astype(np.int64)))
        was_training = self.training
        self.eval()
        total, count = torch.zeros_like(self.centred.mean, dtype=torch.float64), 0
        for ids, *_ in Batches(chosen, 64, seed=None):
            x = self.encode(ids.to(self.device))
            for oriented in (x, strand.reverse_complement(x)) if both_orientations else (x,):
                pooled = self.features(oriented)
                total += pooled.sum(0, dtype=torch.float64)
                count += len(pooled)
        self.centred.mean.copy_(total / count)
        self.train(was_training)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Symmetrize the gradients of a symmetric model. They are then those of both orientations, at no cost."""
        if not self.symmetric:
            return
        known = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        gradients = {name: p.grad for name, p in known.items() if p.grad is not None}
        for name, gradient in symmetrized(gradients, keep="both").items():
            known[name].grad = gradient

    def undecayed(self) -> list[Tensor]:
        return [*super().undecayed(), self.head.linear.weight]

"""A model that learns from a teacher what each position of a sequence adds.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.batches import Rows
from crossdna_interpret.training.recipes.families import FamilyBatch
from crossdna_interpret.training.recipes.family_training import FamilyFinetuning
from crossdna_interpret.training.recipes.human.teacher import Dragonn

__all__ = ["PositionDistillation", "begin_with_filters"]

_STRETCHES = (1, 13)  # positions over which terms are averaged before they are compared


class PositionDistillation(FamilyFinetuning):
    """A `CrossDNA` that learns the terms of a teacher, one for each position, instead of their mean alone.

    A sequence then gives as many numbers to learn from as it has positions. The effect of a mutation is the sum of a
    few of them, and next to nothing of the mean.

    Args:
        model: a model with a head. Its score is the mean of a term for each position too.
        teacher: terms (N, L, T) of ids (N, L), whose mean over L is the teacher's score.
        lengths: shortest and longest sequence. Each batch is cropped to a random length between them.
        settings: settings of `FamilyFinetuning`, except those of its loss and its shift.

    Raises:
        ValueError: the lengths are not in order.
    """

    def __init__(
        self, model: CrossDNA, *, teacher: Callable[[Tensor], Tensor], lengths: Sequence[int], **settings: Any
    ) -> None:
        super().__init__(model, of_changes=0.0, shift=0, **settings)
        shortest, longest = lengths
        if not 1 <= shortest <= longest:
            raise ValueError(f"`lengths` must be two lengths in order, but are {shortest} and {longest}.")
        self.teacher = teacher
        self.lengths = shortest, longest

    def check(self, train: Rows, valid: Rows | None, *, batch: int, monitor: str | None) -> None:
        super().check(train, valid, batch=batch, monitor=monitor)
        if self.lengths[1] > train.lengths.min():
            raise ValueError(f"`train` must have at least {self.lengths[1]} bases, but has {train.lengths.min()}.")

    def training_step(self, batch: FamilyBatch, batch_index: int) -> Tensor:
        ids = self._cropped(batch[0])
        x = self.encode(ids)
        features = self.model.represent(x, strand.reverse_complement(x))
        terms = self.readout(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        expected = self.teacher(ids).clone()  # a tensor from inference mode cannot be part of a loss
        loss = torch.stack([_relative_error(terms, expected, stretch) for stretch in _STRETCHES]).sum()
        self.log("train_spread", terms.detach().mean(1).std(0).mean())
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def _cropped(self, ids: Tensor) -> Tensor:
        shortest, longest = self.lengths
        length = int(torch.randint(shortest, longest + 1, ()))
        start = int(torch.randint(ids.shape[1] - length + 1, ()))
        return ids[:, start : start + length]


def _relative_error(terms: Tensor, expected: Tensor, stretch: int) -> Tensor:
    """Mean squared error of the mean terms (N, L, T) of stretches, in units of their variance."""
    means = [F.avg_pool1d(each.transpose(1, 2), stretch, 1) for each in (terms, expected)]
    error = (means[0] - means[1]).square().mean((0, 2))
    return (error / means[1].var((0, 2)).clamp(min=1e-6)).mean()


@torch.no_grad()
def begin_with_filters(model: CrossDNA, network: Dragonn) -> None:
    """Let the stem of a model begin as the most used filters of a network's first layer, for both strands."""
    filters, bias = network.first_filters(model.config.d_model)
    for conv in (model.stem.conv_forward, model.stem.conv_reverse):
        assert conv.bias is not None
        width, own = conv.kernel_size[0], filters.shape[2]
        before = (width - own) // 2
        deviation = 0.7 * (0.75 * width) ** -0.5  # about that of other stems, see `Stem`
        scale = deviation / filters.flatten(1).std(1)
        conv.weight[: len(filters)] = F.pad(filters * scale[:, None, None], (before, width - own - before, 0, 1))
        conv.bias[: len(filters)] = bias * scale

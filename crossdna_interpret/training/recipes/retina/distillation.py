"""Distillation from a motif-based teacher.

N  sequences    L  positions    H  channels
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.recipes.retina.motifs import POSITION
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.supervised import shifted
from crossdna_interpret.training.tables import Batch, Table

__all__ = ["Distillation", "recombined"]

_LEAST_SPREAD = 0.1  # of a feature: one that hardly varies would outweigh all others where it does


class Distillation(Finetuning):
    """Three things are learned at once: what was measured, what a teacher says, and which motifs there are.

    The first half of a batch is as it was measured, moved a little. The second half are recombined and mutated
    sequences, which nobody has measured: the teacher knows what it would say of them. The features of known motifs,
    but for their positions, are read off the pooled representation by a linear layer that is dropped in the end; they
    lead a network that starts from nothing to the motifs.

    Args:
        model: with a head of one target.
        teacher: fitted to the training rows.
        table: the training rows, for the scale of what is learned.
        of_measured, of_motifs: weights of the measurements and of the motifs; that of the teacher is one.
        settings: those of `Finetuning`.

    Raises:
        ValueError: several targets, or sequences of several lengths.
    """

    def __init__(
        self,
        model: CrossDNA,
        teacher: MotifTeacher,
        table: Table,
        *,
        of_measured: float = 0.3,
        of_motifs: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(model, **settings)
        if len(model.targets) != 1:
            raise ValueError(f"`model` must have one target, but has {', '.join(model.targets)}.")
        if len(np.unique(table.lengths)) > 1:
            raise ValueError(f"`table` must have sequences of one length, but has {np.unique(table.lengths)[:5]}.")
        self.teacher, self.of_measured, self.of_motifs = teacher, of_measured, of_motifs
        chosen = table.rows(range(0, len(table), max(1, len(table) // 2048)))
        ids = chosen.batch(range(len(chosen)))[0]
        features = teacher.scan.features(ids)
        said = teacher(ids, features)
        wanted = _unplaced(features)
        self.register_buffer("usual", wanted.mean(0), persistent=False)
        self.register_buffer("spread", wanted.std(0).clamp(min=_LEAST_SPREAD), persistent=False)
        self.measured_variance = float(torch.from_numpy(table.targets).var())
        self.taught_variance = max(float(said.var()), 1e-6)
        self.motifs = nn.Linear(model.config.d_model, self.usual.numel())
        nn.init.zeros_(self.motifs.weight)
        nn.init.zeros_(self.motifs.bias)

    usual: Tensor
    spread: Tensor

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        terms = self.terms(batch)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.log_dict({f"train_{name}": term.detach() for name, (_, term) in terms.items()})
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def terms(self, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """What the loss is made of: for each name, its weight, and the term as a share of a variance."""
        ids, targets, weight, level = batch
        half = (len(ids) + 1) // 2
        ids = shifted(ids, self.shift)
        ids = torch.cat([ids[:half], recombined(ids)[half:]])
        features = self.teacher.scan.features(ids.cpu())
        said = self.teacher(ids.cpu(), features).to(self.device)
        pooled = self.centred(self.features(self.encode(ids)))
        scores = self.head.linear(pooled)
        measured = self.loss(scores[:half] + self.offset(level[:half]), targets[:half], weight[:half])
        wanted = (_unplaced(features).to(self.device) - self.usual) / self.spread
        return {
            "taught": (1.0, F.mse_loss(scores[:, 0], said) / self.taught_variance),
            "measured": (self.of_measured, measured / self.measured_variance),
            "motifs": (self.of_motifs, F.mse_loss(self.motifs(pooled), wanted)),
        }

    def undecayed(self) -> list[Tensor]:
        return [*super().undecayed(), self.motifs.weight]


def _unplaced(features: Tensor) -> Tensor:
    """(N, M F) motif features without those that depend on the orientation."""
    return torch.cat([features[..., :POSITION], features[..., POSITION + 1 :]], dim=2).flatten(1)


def recombined(ids: Tensor, most_mutated: float = 0.15) -> Tensor:
    """Sequences (N, L) that are new: half of them begin as another of the batch, and all are mutated.

    Args:
        ids: (N, L).
        most_mutated: share of positions that get a random base at most; each sequence has a share of its own.
    """
    n, length = ids.shape
    others = ids[torch.randperm(n, device=ids.device)]
    begins = torch.arange(length, device=ids.device) < torch.randint(length, (n, 1), device=ids.device)
    crossed = torch.rand(n, 1, device=ids.device) < 0.5
    result = torch.where(crossed & begins, others, ids)
    mutated = torch.rand(n, length, device=ids.device) < most_mutated * torch.rand(n, 1, device=ids.device)
    return torch.where(mutated, torch.randint(4, (n, length), device=ids.device, dtype=ids.dtype), result)

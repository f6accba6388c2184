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
from crossdna_interpret.training.recipes.motif_scan import POSITION
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.supervised import shifted
from crossdna_interpret.training.tables import Batch, Table

__all__ = ["Distillation", "recombined"]

_LEAST_STD = 0.1  # smallest scale of a feature. Otherwise a nearly constant feature would dominate when it varies


class Distillation(Finetuning):
    """Training with three terms: the measurements, the predictions of a teacher, and motif features.

    The first half of a batch has measured sequences with random shifts. The second half has recombined and mutated
    sequences without measurements, for which the teacher gives the target. A linear layer predicts features of known
    motifs, without positions, from the pooled representation. It guides an untrained network to the motifs and is
    dropped at the end.

    Args:
        model: a model with a head of one target.
        teacher: a teacher fitted to the training rows.
        table: the training rows, for the scales of the terms.
        of_measured, of_motifs: weights of the measurements and of the motifs. The weight of the teacher is one.
        settings: settings of `Finetuning`.

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
        teacher_scores = teacher(ids, features)
        feature_targets = _orientation_free(features)
        self.register_buffer("feature_mean", feature_targets.mean(0), persistent=False)
        self.register_buffer("feature_std", feature_targets.std(0).clamp(min=_LEAST_STD), persistent=False)
        self.measured_variance = float(torch.from_numpy(table.targets).var())
        self.teacher_variance = max(float(teacher_scores.var()), 1e-6)
        self.motifs = nn.Linear(model.config.d_model, self.feature_mean.numel())
        nn.init.zeros_(self.motifs.weight)
        nn.init.zeros_(self.motifs.bias)

    feature_mean: Tensor
    feature_std: Tensor

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        terms = self.terms(batch)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.log_dict({f"train_{name}": term.detach() for name, (_, term) in terms.items()})
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def terms(self, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Terms of the loss: for each name, its weight, and the term relative to a variance."""
        ids, targets, weight, level = batch
        half = (len(ids) + 1) // 2
        ids = shifted(ids, self.shift)
        ids = torch.cat([ids[:half], recombined(ids)[half:]])
        features = self.teacher.scan.features(ids.cpu())
        teacher_scores = self.teacher(ids.cpu(), features).to(self.device)
        pooled = self.centred(self.features(self.encode(ids)))
        scores = self.head.linear(pooled)
        measured = self.loss(scores[:half] + self.offset(level[:half]), targets[:half], weight[:half])
        feature_targets = (_orientation_free(features).to(self.device) - self.feature_mean) / self.feature_std
        return {
            "teacher": (1.0, F.mse_loss(scores[:, 0], teacher_scores) / self.teacher_variance),
            "measured": (self.of_measured, measured / self.measured_variance),
            "motifs": (self.of_motifs, F.mse_loss(self.motifs(pooled), feature_targets)),
        }

    def undecayed(self) -> list[Tensor]:
        return [*super().undecayed(), self.motifs.weight]


def _orientation_free(features: Tensor) -> Tensor:
    """Motif features (N, M F) without those that depend on the orientation."""
    return torch.cat([features[..., :POSITION], features[..., POSITION + 1 :]], dim=2).flatten(1)


def recombined(ids: Tensor, max_mutated: float = 0.15) -> Tensor:
    """New sequences (N, L): half of them get the beginning of another sequence in the batch, and all are mutated.

    Args:
        ids: (N, L).
        max_mutated: largest fraction of positions that get a random base. Each sequence has its own fraction.
    """
    n, length = ids.shape
    others = ids[torch.randperm(n, device=ids.device)]
    begins = torch.arange(length, device=ids.device) < torch.randint(length, (n, 1), device=ids.device)
    crossed = torch.rand(n, 1, device=ids.device) < 0.5
    result = torch.where(crossed & begins, others, ids)
    mutated = torch.rand(n, length, device=ids.device) < max_mutated * torch.rand(n, 1, device=ids.device)
    return torch.where(mutated, torch.randint(4, (n, length), device=ids.device, dtype=ids.dtype), result)

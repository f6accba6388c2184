"""Fine-tuning on measured changes between a sequence and its edit.

P  pairs    L  positions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.recipes.retina.distillation import Distillation
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.supervised import shifted
from crossdna_interpret.training.tables import Batch, Table

__all__ = ["MutationPairs", "PairDistillation"]


@dataclass(frozen=True)
class MutationPairs:
    """Sequences before and after an edit. Both are measured in the same library, so its offset cancels.

    Attributes:
        before, after: (P, L) ids.
        change: (P,) measurement after the edit minus measurement before.
        weight: (P,) weight of each pair.
    """

    before: Tensor
    after: Tensor
    change: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.change)


class PairDistillation(Distillation):
    """`Distillation` with an additional term: the squared error of the change between the sequences of a pair.

    The effect of a few bases is small compared with the differences between enhancers. So a model learns little about
    it from activities alone.

    Args:
        model, teacher, table: as for `Distillation`.
        contrasts: pairs of training sequences.
        of_contrasts: weight of the term.
        pairs: number of random pairs in each step.
        settings: settings of `Distillation`.
    """

    def __init__(
        self,
        model: CrossDNA,
        teacher: MotifTeacher,
        table: Table,
        contrasts: MutationPairs,
        *,
        of_contrasts: float = 1.0,
        pairs: int = 12,
        **settings: Any,
    ) -> None:
        super().__init__(model, teacher, table, **settings)
        self.contrasts, self.of_contrasts, self.pairs = contrasts, of_contrasts, pairs

    def terms(self, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        chosen = torch.randint(len(self.contrasts), (self.pairs,))
        both = torch.cat([self.contrasts.before[chosen], self.contrasts.after[chosen]])
        before, after = self.score(self.encode(shifted(both, self.shift).to(self.device)))[:, 0].chunk(2)
        change, weight = (each[chosen].to(self.device) for each in (self.contrasts.change, self.contrasts.weight))
        error = (weight * (after - before - change).square()).sum() / weight.sum()
        return {**super().terms(batch), "contrasts": (self.of_contrasts, error / self.measured_variance)}

"""A model of the reverse complement.

DNA has no preferred orientation, but a model may have one: f(x) and f(reverse complement of x) can differ. Their mean
has no preference. Their difference is an error bar that needs no assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.dna.strand import reverse_complement_ids
from crossdna_interpret.models.delegate import Delegate
from crossdna_interpret.models.inputs import Inputs, inputs_of
from crossdna_interpret.models.protocols import (
    Acceleration,
    Concurrency,
    Memory,
    Reuse,
    Scorer,
    capability,
    declare,
)

__all__ = ["ReverseComplemented"]


class ReverseComplemented(Delegate):
    """A model that scores the reverse complement of a sequence. It has the capabilities of the wrapped model.

    Args:
        model: any `SequenceModel`. It is not changed.
    """

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets of the wrapped model."""
        return tuple(self.model.targets)

    def forward(self, *batch: Any) -> Tensor:
        """Scores (N, T) of a batch that already holds the reverse complements."""
        scores: Tensor = self.model(*batch)
        return scores


@dataclass(frozen=True)
class _Inputs:
    inputs: Inputs

    def batch(self, ids: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return self.inputs.batch(reverse_complement_ids(ids), device=device, dtype=dtype)

    def expected(self, length: int) -> str | None:
        return self.inputs.expected(length)


@dataclass(frozen=True)
class _Reuse:
    reuse: Reuse

    def problem(self) -> str | None:
        return self.reuse.problem()

    def scorer(self, reference: np.ndarray) -> Scorer:
        return _Scorer(self.reuse.scorer(reverse_complement_ids(reference)))

    def recomputed(self, length: int) -> int:
        return self.reuse.recomputed(length)

    @property
    def width(self) -> int:
        return self.reuse.width


@dataclass(frozen=True)
class _Scorer:
    scorer: Scorer

    def score(self, ids: np.ndarray) -> Tensor:
        return self.scorer.score(reverse_complement_ids(ids))


def _reuse(model: ReverseComplemented) -> _Reuse | None:
    offered = capability(model.model, Reuse)
    return None if offered is None else _Reuse(offered)


declare(
    ReverseComplemented,
    {
        Inputs: lambda model: _Inputs(inputs_of(model.model)),
        Reuse: _reuse,
        Memory: lambda model: capability(model.model, Memory),
        Concurrency: lambda model: capability(model.model, Concurrency),
        Acceleration: lambda model: capability(model.model, Acceleration),
    },
)

"""A model restricted to some of its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.delegate import Delegate
from crossdna_interpret.models.inputs import Inputs, inputs_of
from crossdna_interpret.models.protocols import (
    Acceleration,
    ArbitraryChoices,
    Concurrency,
    Embeddings,
    Exchange,
    Memory,
    Reuse,
    Scorer,
    SequenceModel,
    StrandPaths,
    SubNetworks,
    capability,
    declare,
)
from crossdna_interpret.models.training_range import TrainingRange

__all__ = ["Selected", "TargetGroups"]


class TargetGroups(Protocol):
    """Names for groups of a model's targets, such as the tracks of one assay."""

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the targets in each group."""
        ...


class Selected(Delegate):
    """A model with some of its targets. It has the capabilities of the wrapped model.

    Args:
        model: the wrapped model. It is not changed.
        indices: indices of the targets to keep, in their new order.
    """

    def __init__(self, model: SequenceModel, indices: tuple[int, ...]) -> None:
        super().__init__(model)
        self.indices = indices
        names = tuple(model.targets)
        self.targets = tuple(names[index] for index in indices)

    @property
    def training_range(self) -> TrainingRange | None:
        """Training range of the wrapped model."""
        result: TrainingRange | None = getattr(self.model, "training_range", None)
        return result

    @property
    def change_errors(self) -> dict[str, ChangeErrors]:
        """Errors of changes of the wrapped model."""
        result: dict[str, ChangeErrors] = getattr(self.model, "change_errors", {})
        return result

    def forward(self, *batch: Any) -> Tensor:
        """Scores (N, T) of the selected targets."""
        return self.of(self.model(*batch))

    def of(self, scores: Tensor) -> Tensor:
        """Select the scores of these targets from the scores (N, .) of all targets."""
        return scores[:, list(self.indices)]


@dataclass(frozen=True)
class _StrandPaths:
    model: Selected
    paths: StrandPaths

    def scores(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        return self.model.of(self.paths.scores(x_forward, x_reverse))


@dataclass(frozen=True)
class _Embeddings:
    model: Selected
    embeddings: Embeddings

    def table(self) -> Tensor:
        return self.embeddings.table()

    def scores(self, embedded: Tensor, *rest: Tensor) -> Tensor:
        return self.model.of(self.embeddings.scores(embedded, *rest))


@dataclass(frozen=True)
class _Reuse:
    model: Selected
    reuse: Reuse

    def problem(self) -> str | None:
        return self.reuse.problem()

    def scorer(self, reference: np.ndarray) -> Scorer:
        return _Scorer(self.model, self.reuse.scorer(reference))

    def recomputed(self, length: int) -> int:
        return self.reuse.recomputed(length)

    @property
    def width(self) -> int:
        return self.reuse.width


@dataclass(frozen=True)
class _Scorer:
    model: Selected
    scorer: Scorer

    def score(self, ids: np.ndarray) -> Tensor:
        return self.model.of(self.scorer.score(ids))


@dataclass(frozen=True)
class _Exchange:
    model: Selected
    exchange: Exchange

    def problem(self) -> str | None:
        return self.exchange.problem()

    def messages(self, ids: np.ndarray, target: int) -> Any:
        return self.exchange.messages(ids, self.model.indices[target])

    def without(self) -> Selected:
        return Selected(self.exchange.without(), self.model.indices)

    def received(self, target: int, length: int) -> SequenceModel:
        return self.exchange.received(self.model.indices[target], length)


@dataclass(frozen=True)
class _ArbitraryChoices:
    model: Selected
    choices: ArbitraryChoices

    def strands_swapped(self, ids: np.ndarray) -> np.ndarray:
        return self.choices.strands_swapped(ids)[list(self.model.indices)]

    def shifts(self, length: int) -> tuple[int, ...]:
        return self.choices.shifts(length)

    def shifted(self, ids: np.ndarray, shift: int) -> np.ndarray:
        return self.choices.shifted(ids, shift)[list(self.model.indices)]


@dataclass(frozen=True)
class _SubNetworks:
    model: Selected
    networks: SubNetworks

    def draw(self, number: int) -> Selected:
        return Selected(self.networks.draw(number), self.model.indices)


def _with_targets(kind: type[Any], adapter: Any) -> Any:
    """Function that creates an adapter for a selection, or returns None if the model lacks the capability."""

    def make(model: Selected) -> Any:
        offered = capability(model.model, kind)
        return None if offered is None else adapter(model, offered)

    return make


@dataclass(frozen=True)
class _Groups:
    model: Selected
    declared: TargetGroups

    def groups(self) -> dict[str, tuple[str, ...]]:
        kept = set(self.model.targets)
        parts = {name: tuple(each for each in group if each in kept) for name, group in self.declared.groups().items()}
        return {name: part for name, part in parts.items() if part}


declare(
    Selected,
    {
        TargetGroups: _with_targets(TargetGroups, _Groups),
        Inputs: lambda model: inputs_of(model.model),
        Memory: lambda model: capability(model.model, Memory),
        Concurrency: lambda model: capability(model.model, Concurrency),
        Acceleration: lambda model: capability(model.model, Acceleration),
        StrandPaths: _with_targets(StrandPaths, _StrandPaths),
        Embeddings: _with_targets(Embeddings, _Embeddings),
        Reuse: _with_targets(Reuse, _Reuse),
        Exchange: _with_targets(Exchange, _Exchange),
        SubNetworks: _with_targets(SubNetworks, _SubNetworks),
        ArbitraryChoices: _with_targets(ArbitraryChoices, _ArbitraryChoices),
    },
)

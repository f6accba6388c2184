"""The protocol of a sequence model, and the optional capabilities that a model can declare.

A class declares the capabilities of its models. Method names have no meaning here:

    declare(MyModel, {Memory: MyMemory})   once, for the class
    capability(model, Memory)              the capability of this model, or None

Wrappers declare the capabilities that they pass on.

N  sequences    L  positions of a sequence    T  targets
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Acceleration",
    "ArbitraryChoices",
    "Compile",
    "Concurrency",
    "Embeddings",
    "Exchange",
    "Memory",
    "ModelLike",
    "Reuse",
    "Scorer",
    "SequenceModel",
    "StrandPaths",
    "SubNetworks",
    "capability",
    "declare",
    "declared",
]

Compile = Literal["auto"] | bool
Kind = TypeVar("Kind")


@runtime_checkable
class SequenceModel(Protocol):
    """The interface that analyses need: an ``nn.Module`` with these attributes.

    Attributes:
        targets: names of the T outputs.
        name: name of the model, for messages and certificates.
        device: device of its computations.
        dtype: dtype of its computations.

    A call with a batch returns scores (N, T). The class declares the format of a batch (`inputs.Inputs`). The default
    is one-hot channels (N, 5, L) in the order ACGTN. ``training_range``, a `TrainingRange`, is optional: analyses warn
    of sequences outside it. For further capabilities, see `protocols.declare`.

    Example:
        >>> import crossdna_interpret as cdi
        >>> isinstance(cdi.load_model(), cdi.SequenceModel)
        True
    """

    @property
    def targets(self) -> tuple[str, ...]: ...

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, *batch: Any) -> Tensor: ...


ModelLike = SequenceModel | str | Path | None


class Memory(Protocol):
    """Memory that a forward pass needs. A pass that needs too much is refused before it starts."""

    def needed(self, n: int, length: int, *, gradients: bool = False) -> int:
        """Approximate bytes, without the weights, for a batch of `n` sequences of `length` bases."""
        ...


class Concurrency(Protocol):
    """Whether several threads may compute with the model at the same time, each with its own batches."""

    def problem(self) -> str | None:
        """Reason why threads are not possible now, or None. A model with None is also stable: see `stability`."""
        ...


class StrandPaths(Protocol):
    """Scores as a function of the channels of each strand, for attributions by strand."""

    def scores(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        """Scores (N, T) from channels (N, C, L) of both strands, each read 5' to 3'."""
        ...


class Embeddings(Protocol):
    """Scores as a function of token embeddings, for gradients with respect to the embeddings."""

    def table(self) -> Tensor:
        """(V, H) embedding of each id of the vocabulary."""
        ...

    def scores(self, embedded: Tensor, *rest: Tensor) -> Tensor:
        """Scores (N, T) from embeddings (N, K, H) and the other arrays of a batch, such as a mask."""
        ...


class Scorer(Protocol):
    """Scores of sequences that differ little from a reference."""

    def score(self, ids: np.ndarray) -> Tensor:
        """Scores (n, T) of ids (n, L') of any length."""
        ...


class Reuse(Protocol):
    """Exact scores of edited sequences that reuse the unchanged part of a reference's computation."""

    def problem(self) -> str | None:
        """Reason why reuse is not possible in the model's current state, or None."""
        ...

    def scorer(self, reference: np.ndarray) -> Scorer:
        """Scorer for sequences similar to the reference ids (L,)."""
        ...

    def recomputed(self, length: int) -> int:
        """Largest number of positions that a substitution in a sequence of `length` recomputes."""
        ...

    @property
    def width(self) -> int:
        """Values that the model stores for each position."""
        ...


class Acceleration(Protocol):
    """Faster computation of the same scores, for example with compiled kernels."""

    def operations(self, length: int) -> float:
        """Approximate number of floating-point operations of a forward pass over `length` bases."""
        ...

    def accelerated(self, compile: Compile, operations: float) -> AbstractContextManager[str]:
        """A context in which the model computes faster if possible. It yields a note that says whether it does.

        Args:
            compile: True requires acceleration and False excludes it. "auto" uses kernels that are already compiled,
                or compiles them if `operations` are enough to repay it.
            operations: floating-point operations of the job.

        Raises:
            RuntimeError: `compile` is True, but acceleration is impossible. The message says why.
        """
        ...


class Exchange(Protocol):
    """Exchange of information between the two strands of a model."""

    def problem(self) -> str | None:
        """Reason why the strands exchange nothing, such as a missing bridge, or None."""
        ...

    def messages(self, ids: np.ndarray, target: int) -> Any:
        """Messages between the strands while ids (L,) are scored, and their effects on one target."""
        ...

    def without(self) -> SequenceModel:
        """A copy of the model without exchange."""
        ...

    def received(self, target: int, length: int) -> SequenceModel:
        """A model whose scores are the contribution of exchange to one target at each of `length` positions."""
        ...


class ArbitraryChoices(Protocol):
    """Arbitrary choices in a model, which have no biological meaning, and scores with other choices."""

    def strands_swapped(self, ids: np.ndarray) -> np.ndarray:
        """Scores (T,) of ids (L,) if each branch reads the other strand."""
        ...

    def shifts(self, length: int) -> tuple[int, ...]:
        """Shifts of the block boundaries, in positions, for sequences of up to `length`. Empty for one block."""
        ...

    def shifted(self, ids: np.ndarray, shift: int) -> np.ndarray:
        """Scores (T,) of ids (L,) with shifted block boundaries."""
        ...


class SubNetworks(Protocol):
    """Variants of a model, for the spread of its predictions."""

    def draw(self, number: int) -> SequenceModel:
        """A copy without some of the model's channels. The number determines which."""
        ...


Offers = Mapping[type[Any], Callable[[Any], Any]]
_offers: dict[type, dict[type, Callable[[Any], Any]]] = {}


def declare(model: type, offers: Offers) -> None:
    """Declare the capabilities of a model class and its subclasses.

    Args:
        model: the class.
        offers: maps each capability to a function that creates it from a model. The function may return None for a
            model without this capability.

    Example:
        >>> class Toy(torch.nn.Module):
        ...     def forward_strands(self, x_forward, x_reverse): ...
        >>> class ToyPaths:
        ...     def __init__(self, model):
        ...         self.scores = model.forward_strands
        >>> declare(Toy, {StrandPaths: ToyPaths})
        >>> capability(Toy(), StrandPaths) is None, capability(Toy(), Memory) is None
        (False, True)
    """
    _offers.setdefault(model, {}).update(offers)


def declared(model: object) -> dict[type, Callable[[Any], Any]]:
    """The functions that create the capabilities of a model, by capability, as its class and base classes declare."""
    result: dict[type, Callable[[Any], Any]] = {}
    for each in reversed(type(model).__mro__):
        result |= _offers.get(each, {})
    return result


def capability(model: object, kind: type[Kind]) -> Kind | None:
    """The capability of a model that its class declares, or None.

    A model wrapped by `torch.compile` has the capabilities of the original model.
    """
    make = declared(model).get(kind)
    if make is not None:
        offered: Kind | None = make(model)
        return offered
    compiled = getattr(model, "_orig_mod", None)
    return None if compiled is None else capability(compiled, kind)

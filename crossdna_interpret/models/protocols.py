"""The protocol of a sequence model, and the optional capabilities that a model can declare.

A model declares what it offers. Nothing is looked up by the name of a method:

    declare(MyModel, {Memory: MyMemory})   once, for the class
    capability(model, Memory)              what this model offers, or None

Wrappers declare what they pass on.

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
    "capability",
    "declare",
]

Compile = Literal["auto"] | bool
Kind = TypeVar("Kind")


@runtime_checkable
class SequenceModel(Protocol):
    """What an analysis needs of a model; an ``nn.Module`` with these attributes will do.

    Attributes:
        targets: names of the T outputs.
        name: of the model, for messages and certificates.
        device: where it computes.
        dtype: in which it computes.

    Called with a batch it returns scores (N, T). What a batch is, its class declares (`inputs.Inputs`). Without a
    declaration it is one-hot channels (N, 5, L) in the order ACGTN. ``training_range``, a `TrainingRange`, is optional:
    outside of it analyses warn. For what else a model may offer, see `protocols.declare`.

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
    """How much memory a forward pass needs, so that a hopeless one is refused before it starts."""

    def needed(self, n: int, length: int, *, gradients: bool = False) -> int:
        """Bytes above the weights, roughly, for `n` sequences of `length` bases at once."""
        ...


class Concurrency(Protocol):
    """Whether several threads may compute with the model at once, and each with batches of its own."""

    def problem(self) -> str | None:
        """Why they may not now, or None. A model for which there is none also gives one sequence one score."""
        ...


class StrandPaths(Protocol):
    """Scores as a function of each strand's channels, so that attributions can be split by strand."""

    def scores(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        """(N, T) of channels (N, C, L) of both strands, each read 5' to 3'."""
        ...


class Embeddings(Protocol):
    """Scores as a function of the embeddings of a model's tokens, so that gradients can be taken by them."""

    def table(self) -> Tensor:
        """(V, H) the embedding of each id of the vocabulary."""
        ...

    def scores(self, embedded: Tensor, *rest: Tensor) -> Tensor:
        """(N, T) of embeddings (N, K, H), and of what else `inputs` gives beside the ids."""
        ...


class Scorer(Protocol):
    """Scores of sequences that are near a reference."""

    def score(self, ids: np.ndarray) -> Tensor:
        """(n, T) of ids (n, L'), of any length."""
        ...


class Reuse(Protocol):
    """Exact scores of edited sequences that do not compute again what they share with a reference."""

    def problem(self) -> str | None:
        """Why it cannot serve the model as it is now, or None."""
        ...

    def scorer(self, reference: np.ndarray) -> Scorer:
        """For sequences near ids (L,)."""
        ...

    def recomputed(self, length: int) -> int:
        """Positions, of a sequence of `length`, that a substitution computes again at most."""
        ...

    @property
    def width(self) -> int:
        """Numbers that the model holds at a position."""
        ...


class Acceleration(Protocol):
    """The same scores, computed faster, such as by compiled kernels."""

    def operations(self, length: int) -> float:
        """Floating-point operations of a forward pass over `length` bases, roughly."""
        ...

    def accelerated(self, compile: Compile, operations: float) -> AbstractContextManager[str]:
        """A context in which the model computes faster if it can; gives a note on whether it does.

        Args:
            compile: True or False to insist; "auto" if it is at hand, or `operations` are many enough to pay.
            operations: floating-point operations of the job.

        Raises:
            RuntimeError: True, and it cannot be done; the message says why.
        """
        ...


class Exchange(Protocol):
    """What crosses between the two strands of a model."""

    def problem(self) -> str | None:
        """Why nothing crosses, such as a model without its bridge, or None."""
        ...

    def messages(self, ids: np.ndarray, target: int) -> Any:
        """The messages between the strands when ids (L,) are scored, and what they do to one target."""
        ...

    def without(self) -> SequenceModel:
        """A copy of the model in which nothing crosses."""
        ...

    def received(self, target: int, length: int) -> SequenceModel:
        """What exchange adds to one target at each of `length` positions, as the scores of a model."""
        ...


class ArbitraryChoices(Protocol):
    """Choices in a model that biology does not make, and scores with another choice."""

    def strands_swapped(self, ids: np.ndarray) -> np.ndarray:
        """(T,) scores of ids (L,) with each branch reading the other strand."""
        ...

    def shifts(self, length: int) -> tuple[int, ...]:
        """By how many positions block boundaries are moved for sequences of up to `length`; empty for one block."""
        ...

    def shifted(self, ids: np.ndarray, shift: int) -> np.ndarray:
        """(T,) scores of ids (L,) with block boundaries moved."""
        ...


Offers = Mapping[type[Any], Callable[[Any], Any]]
_offers: dict[type, dict[type, Callable[[Any], Any]]] = {}


def declare(model: type, offers: Offers) -> None:
    """Say what models of a class, and of its subclasses, offer.

    Args:
        model: the class.
        offers: for each capability what makes it of a model. It may give None where this model does not offer it.

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


def capability(model: object, kind: type[Kind]) -> Kind | None:
    """What a model offers of a kind, as its class declares, or None.

    The module that `torch.compile` puts around a model offers what the model does.
    """
    for each in type(model).__mro__:
        make = _offers.get(each, {}).get(kind)
        if make is not None:
            offered: Kind | None = make(model)
            return offered
    compiled = getattr(model, "_orig_mod", None)
    return None if compiled is None else capability(compiled, kind)

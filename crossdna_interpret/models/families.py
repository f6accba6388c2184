"""Registered families of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from crossdna_interpret.models.checkpoints import Checkpoint
from crossdna_interpret.models.protocols import Offers, SequenceModel, declare

__all__ = ["Family", "families", "register"]


@dataclass(frozen=True)
class Family:
    """A family of models: how to recognise and load its checkpoints, and the capabilities of its models.

    Attributes:
        name: name of the family.
        model: class of its models.
        recognises: whether the content of a `config.json` belongs to this family.
        load: loads a checkpoint of this family on the CPU, in float32 and in evaluation mode.
        offers: maps each capability (see `protocols`) to a function that creates it from a model. `inputs.Inputs` is
            the capability that describes the model's input.
        backends: names of kernels from other packages that can compute the recurrence.
        set_backend: function of a model and "auto", "torch" or one of `backends`.
    """

    name: str
    model: type[nn.Module]
    recognises: Callable[[Mapping[str, Any]], bool]
    load: Callable[[Checkpoint], SequenceModel]
    offers: Offers = field(default_factory=dict)
    backends: tuple[str, ...] = ()
    set_backend: Callable[[Any, str], None] | None = None


_families: dict[str, Family] = {}


def register(family: Family) -> None:
    """Register a family, so that `load_model` can load its models and analyses can use their capabilities.

    A family whose class was defined again, as when a cell of a notebook runs again, replaces the earlier one.

    Raises:
        ValueError: another family has this name.
    """
    known = _families.get(family.name)
    if known is not None and known is not family and not _defined_again(known.model, family.model):
        raise ValueError(f"`family` {family.name!r} is the name of another family.")
    _families[family.name] = family
    declare(family.model, family.offers)


def _defined_again(known: type, new: type) -> bool:
    same = (known.__module__, known.__qualname__) == (new.__module__, new.__qualname__)
    return same and known is not new


def families() -> list[Family]:
    """Registered families, in the order of registration."""
    return list(_families.values())

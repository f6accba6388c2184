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
    """A family of models: how its checkpoints are recognised and loaded, and what its models offer.

    Attributes:
        name: of the family.
        model: class of its models.
        recognises: whether the content of a `config.json` is of this family.
        load: a model on the CPU in float32, in evaluation mode, from a checkpoint that is recognised.
        offers: for each capability (see `protocols`) what makes it of a model; `inputs.Inputs` says what a model takes.
        backends: names of other packages' kernels that can compute its recurrence.
        set_backend: called with a model and "auto", "torch" or one of `backends`.
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
    """Make a family known to `load_model`, and its models' capabilities to every analysis.

    Raises:
        ValueError: another family of that name is known.
    """
    known = _families.setdefault(family.name, family)
    if known is not family:
        raise ValueError(f"`family` {family.name!r} is the name of another family.")
    declare(family.model, family.offers)


def families() -> list[Family]:
    """Those that are known, in the order in which they were registered."""
    return list(_families.values())

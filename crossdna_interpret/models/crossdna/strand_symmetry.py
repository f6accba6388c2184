"""A model with its two strand paths exchanged, and weights that are symmetric under that exchange."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["swap_strands", "swapped", "symmetrized"]

_TWINS = [
    ("stem.conv_forward.", "stem.conv_reverse."),
    ("branch_a.", "branch_b."),
    ("bridge.context_of_a.", "bridge.context_of_b."),
    ("bridge.project_b_to_a.", "bridge.project_a_to_b."),
    ("bridge.pool_b_to_a.", "bridge.pool_a_to_b."),
    ("bridge.norm_a.", "bridge.norm_b."),
    ("fusion.project_a.", "fusion.project_b."),
]


def swap_strands(model: CrossDNA) -> CrossDNA:
    """A copy whose branches have each other's weights, so that copy(x) = model(reverse complement of x).

    Exact for sequences of one block; with several, block boundaries fall elsewhere on the reverse complement. What is
    read along the sequence is mirrored with it (the bridge's convolutions), and language-model logits are complemented.

    Args:
        model: any CrossDNA; it is not changed.
    """
    result = copy.deepcopy(model)
    result.load_state_dict(swapped(model.state_dict()), strict=True)
    return result


def swapped(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values by name of a parameter, such as weights or gradients, as they are with the strand paths exchanged."""
    return {_twin(name): _mirrored(name, value) for name, value in values.items()}


def symmetrized(values: Mapping[str, Tensor], *, keep: Literal["branch_a", "both"]) -> dict[str, Tensor]:
    """The nearest values that exchanging the strand paths does not change, or those that follow from branch A's.

    With such weights a model scores a sequence of one block and its reverse complement alike.

    Args:
        values: by name of a parameter, as for `swapped`.
        keep: "both" for the mean of each value and its twin; "branch_a" to give branch B and its part of the bridge
            what branch A has, which keeps the spread of random weights.
    """
    twins = swapped(values)
    result = {}
    for name, value in values.items():
        twin = _twin(name)
        if twin == name or keep == "both":
            result[name] = (value + twins[name]) / 2
        else:
            result[name] = value if name < twin else twins[name]
    return result


def _twin(name: str) -> str:
    for first, second in _TWINS:
        for own, other in ((first, second), (second, first)):
            if name.startswith(own):
                return other + name.removeprefix(own)
    return name


def _mirrored(name: str, tensor: Tensor) -> Tensor:
    if ".convs." in name:
        return tensor.flip(-1)
    if name == "bridge.gate.weight":  # columns see a, b, a - b, a * b; rows give the gate of a, then of b
        a, b, difference, product = tensor.chunk(4, dim=1)
        return _halves_swapped(torch.cat([b, a, -difference, product], dim=1), 0)
    if name == "bridge.gate.bias":
        return _halves_swapped(tensor, 0)
    if name == "fusion.gate.weight":  # the gate weighs branch A; exchanged, it is one minus what it was
        return -_halves_swapped(tensor, 1)
    if name == "fusion.gate.bias":
        return -tensor
    if name.startswith("lm_head."):
        return tensor[[3, 2, 1, 0, 4]]
    return tensor


def _halves_swapped(tensor: Tensor, dim: int) -> Tensor:
    first, second = tensor.chunk(2, dim=dim)
    return torch.cat([second, first], dim=dim)

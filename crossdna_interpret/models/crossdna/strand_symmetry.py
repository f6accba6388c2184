"""Swap the two strand paths of a model, and make weights symmetric under this swap."""

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
    """Copy a model and swap the weights of its branches, so that copy(x) = model(reverse complement of x).

    This is exact for sequences of one block. With several blocks, the reverse complement has other block boundaries.
    The bridge's convolutions are mirrored, and language-model logits are complemented.

    Args:
        model: any CrossDNA model. It is not changed.
    """
    result = copy.deepcopy(model)
    result.load_state_dict(swapped(model.state_dict()), strict=True)
    return result


def swapped(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Swap the strand paths in values by parameter name, such as weights or gradients."""
    return {_twin(name): _mirrored(name, value) for name, value in values.items()}


def symmetrized(values: Mapping[str, Tensor], *, keep: Literal["branch_a", "both"]) -> dict[str, Tensor]:
    """Make values symmetric, so that swapping the strand paths does not change them.

    With such weights a model scores a sequence of one block and its reverse complement equally.

    Args:
        values: values by parameter name, as for `swapped`.
        keep: "both" averages each value and its twin. "branch_a" copies branch A and its part of the bridge to
            branch B, which keeps the variance of random weights.
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
    if name == "fusion.gate.weight":  # the gate weights branch A. After the swap it is one minus the old gate
        return -_halves_swapped(tensor, 1)
    if name == "fusion.gate.bias":
        return -tensor
    if name.startswith("lm_head."):
        return tensor[[3, 2, 1, 0, 4]]
    return tensor


def _halves_swapped(tensor: Tensor, dim: int) -> Tensor:
    first, second = tensor.chunk(2, dim=dim)
    return torch.cat([second, first], dim=dim)

"""The model with its two strand paths exchanged, an exact symmetry used to test orientation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["swap_strands"]

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
    state = model.state_dict()
    swapped = {_twin(name): _mirrored(name, tensor) for name, tensor in state.items()}
    result = copy.deepcopy(model)
    result.load_state_dict(swapped, strict=True)
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

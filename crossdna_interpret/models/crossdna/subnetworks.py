"""Sub-networks of a CrossDNA: copies without some channels, as dropout makes them during training."""

from __future__ import annotations

import copy

import numpy as np
import torch

from crossdna_interpret.models.crossdna.model import CrossDNA

__all__ = ["sub_network"]


def sub_network(model: CrossDNA, number: int, *, rate: float = 0.1) -> CrossDNA:
    """Copy a model without some channels of the stem and of the head.

    Unlike dropout in training, the same channels are missing at all positions and in all sequences. So the copy is an
    ordinary model, and differences between its scores are effects of the sequence.

    Args:
        model: a CrossDNA with a head. It is not changed.
        number: number of the copy. It determines the channels.
        rate: fraction of the channels to leave out. The head's remaining weights are scaled up accordingly.

    Raises:
        ValueError: the model has no head, or `rate` is not from 0 to below 1.

    Example:
        >>> from crossdna_interpret.models.registry import load_model
        >>> first = sub_network(load_model("retina-enhancer"), 0)
        >>> int((first.head.linear.weight == 0).sum()) > 0
        True
    """
    if model.head is None:
        raise ValueError(f"`model` {model.name} must have a head, but is a language model.")
    if not 0 <= rate < 1:
        raise ValueError(f"`rate` must be from 0 to below 1, but got {rate!r}.")
    result = copy.deepcopy(model)
    assert result.head is not None
    random = np.random.default_rng([number, 0xD0])
    stem, head = (
        torch.from_numpy(random.random(model.config.d_model) >= rate).to(device=model.device, dtype=model.dtype)
        for _ in range(2)
    )
    with torch.no_grad():
        for conv in (result.stem.conv_forward, result.stem.conv_reverse):
            assert conv.bias is not None
            conv.weight *= stem[:, None, None]
            conv.bias *= stem  # gelu(0) is 0, so the channel is 0 everywhere
        result.head.linear.weight *= head / (1 - rate)
    return result.eval().requires_grad_(False)

"""Reference attributions from captum and one-hot code."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from torch import nn

from crossdna_interpret.dna import alphabet

TARGETS = ("rods", "cones", "amacrine")


def captum_by_strand(
    model: nn.Module, sequence: str, baseline: np.ndarray, target: int, *, sections: int = 1, points: int = 50
) -> tuple[np.ndarray, ...]:
    """Two (L, 4) arrays: what captum gives each stem convolution for its input, both in forward coordinates.

    `baseline` is (L, 4); as in the package, an N of the sequence is an N of the baseline too. The line is integrated in
    as many sections of equal length, with so many points each.
    """
    x = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence), np.float64))[None]
    start = torch.zeros_like(x)
    start[0, :4] = torch.from_numpy(baseline).T
    unknown = torch.from_numpy(np.array(list(sequence)) == "N")
    start[:, :, unknown] = x[:, :, unknown]
    with warnings.catch_warnings():
        # This warning asks to check that the two convolutions are parallel. They are.
        warnings.filterwarnings("ignore", message="Multiple layers provided")
        method = LayerIntegratedGradients(model, [model.stem.conv_forward, model.stem.conv_reverse])
    options = {"n_steps": points, "method": "gausslegendre", "attribute_to_layer_input": True, "target": target}
    total = [torch.zeros_like(x), torch.zeros_like(x)]
    for number in range(sections):
        first, last = (torch.lerp(start, x, share / sections) for share in (number, number + 1))
        for strand, part in enumerate(method.attribute(last, baselines=first, **options)):
            total[strand] += part.detach()
    forward, reverse = (each[0, :4].numpy() for each in total)
    return forward.T, reverse[::-1, ::-1].T  # ACGT reversed is its complement


def channels(sequence: str) -> np.ndarray:
    """(L, 4) one-hot channels ACGT; zeros at an N."""
    return alphabet.one_hot(alphabet.encode(sequence), np.float64)[:4].T

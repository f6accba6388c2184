"""The published network that `human-enhancer` is distilled from: the convolutional model of MPRA-DragoNN.

Source: Movva et al. 2019 (PLoS ONE 14:e0218073), kundajelab/MPRA-DragoNN (MIT).

N  sequences    L  positions    C  channels
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from crossdna_interpret.dna.strand import reverse_complement_ids

__all__ = ["LENGTH", "TARGETS", "Dragonn", "teach"]

LENGTH = 145
TARGETS = ("K562", "HepG2")
# Outputs with both replicates pooled: minimal promoter, SV40 promoter.
_POOLED = {"K562": (2, 5), "HepG2": (8, 11)}
_EPSILON = 1e-3  # of its normalisation


class Dragonn(nn.Module):
    """Ids (N, 145) of A, C, G and T -> 12 outputs (N, 12).

    For K562 and then HepG2, each with the minimal and the SV40 promoter: replicates 1 and 2, and both pooled. Three
    times a convolution without padding, ReLU, and then normalisation; a linear layer on positions x channels.

    Args:
        path: the weights, as a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise FileNotFoundError(f"`path` must be the weights of MPRA-DragoNN, but there is no file {path}.")
        stored = load_file(path)
        with torch.random.fork_rng(devices=[]):  # the initial weights are random numbers
            self._build(stored)
        self.eval().requires_grad_(False)

    def _build(self, stored: dict[str, Tensor]) -> None:
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for number in (1, 2, 3):
            kernel = stored[f"conv1d_{number}.kernel"].permute(2, 1, 0)  # (width, in, out) -> (out, in, width)
            convolution = nn.Conv1d(kernel.shape[1], kernel.shape[0], kernel.shape[2])
            convolution.load_state_dict({"weight": kernel, "bias": stored[f"conv1d_{number}.bias"]})
            norm = nn.BatchNorm1d(kernel.shape[0], eps=_EPSILON)
            named = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
            state = {own: stored[f"batch_normalization_{number}.{other}"] for own, other in named.items()}
            norm.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
            self.convolutions.append(convolution)
            self.norms.append(norm)
        self.out = nn.Linear(*stored["dense_1.kernel"].shape)
        self.out.load_state_dict({"weight": stored["dense_1.kernel"].T, "bias": stored["dense_1.bias"]})

    def forward(self, ids: Tensor) -> Tensor:
        h = F.one_hot(ids.long(), 4).transpose(1, 2).to(self.out.weight.dtype)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = norm(F.relu(convolution(h)))
        scores: Tensor = self.out(h.transpose(1, 2).flatten(1))
        return scores


def teach(network: Dragonn, ids: np.ndarray) -> np.ndarray:
    """Activity (N, 2) in K562 and HepG2 of ids (N, 145): the mean over both promoters and both strands."""
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(ids).split(1024):
            both = network(part) + network(reverse_complement_ids(part.long()))
            parts.append(torch.stack([both[:, _POOLED[name]].sum(1) / 4 for name in TARGETS], dim=1))
    result: np.ndarray = torch.cat(parts).numpy()
    return result

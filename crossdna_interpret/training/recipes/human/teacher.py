"""The published network that `human-enhancer` is distilled from: the convolutional model of MPRA-DragoNN.

Source: Movva et al. 2019 (PLoS ONE 14:e0218073), kundajelab/MPRA-DragoNN (MIT).

N  sequences    L  positions    C  channels    T  targets
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from crossdna_interpret.dna.strand import reverse_complement_ids

__all__ = ["LENGTH", "TARGETS", "Contributions", "Dragonn", "teach"]

LENGTH = 145
TARGETS = ("K562", "HepG2")
# Outputs with both replicates pooled: minimal promoter, SV40 promoter.
_POOLED = {"K562": (2, 5), "HepG2": (8, 11)}
_EPSILON = 1e-3  # of its normalisation
_SPAN = 13  # bases that three convolutions of width 5 see


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

    def features(self, ids: Tensor) -> Tensor:
        """Features (N, C, L - 12) of ids (N, L). Each is of the 13 bases from its position on."""
        h = F.one_hot(ids.long(), 4).transpose(1, 2).to(self.out.weight.dtype)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = norm(F.relu(convolution(h)))
        return h

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.out(self.features(ids).transpose(1, 2).flatten(1))
        return scores

    def first_filters(self, count: int) -> tuple[Tensor, Tensor]:
        """Filters (C, 4, 5) of the first layer and their biases (C,), those with the largest weights downstream first.

        Args:
            count: largest number of filters.
        """
        first, second, norm = self.convolutions[0], self.convolutions[1], self.norms[0]
        assert isinstance(first, nn.Conv1d)
        assert isinstance(second, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        assert first.bias is not None
        assert norm.running_var is not None
        gain = norm.weight.abs() / (norm.running_var + norm.eps).sqrt()
        use = second.weight.abs().sum((0, 2)) * gain * first.weight.flatten(1).std(1)
        chosen = use.argsort(descending=True)[:count]
        return first.weight[chosen], first.bias[chosen]


def teach(network: Dragonn, ids: np.ndarray) -> np.ndarray:
    """Activity (N, 2) in K562 and HepG2 of ids (N, 145): the mean over both promoters and both strands."""
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(ids).split(1024):
            both = network(part) + network(reverse_complement_ids(part.long()))
            parts.append(torch.stack([both[:, _POOLED[name]].sum(1) / 4 for name in TARGETS], dim=1))
    result: np.ndarray = torch.cat(parts).numpy()
    return result


class Contributions:
    """What each position adds to the teacher's activity, whatever its place in the window.

    The last layer of the network has weights of its own for each place. They differ from one place to the next like
    noise. So each is replaced by the mean over all places: the activity is then what the network gives on average over
    shifts, a mean of terms of 13 bases each, for sequences of any length.

    Args:
        network: the published network.
        usual: ids (N, L) of usual sequences. Positions at the ends, which are the middle of no 13 bases, have the mean
            term of these.
    """

    def __init__(self, network: Dragonn, usual: np.ndarray) -> None:
        self.network = network
        self.places = LENGTH - _SPAN + 1
        weight = network.out.weight.unflatten(1, (self.places, -1)).mean(1)  # (12, C)
        self.weight = torch.stack([weight[list(_POOLED[name])].mean(0) for name in TARGETS])  # (T, C)
        self.bias = torch.stack([network.out.bias[list(_POOLED[name])].mean() for name in TARGETS])
        with torch.inference_mode():
            self.centre = self._terms(torch.from_numpy(usual)).mean((0, 1))

    def __call__(self, ids: Tensor) -> Tensor:
        """(N, L, T) terms of ids (N, L), each at the middle of its 13 bases. Their mean over L is the activity."""
        with torch.inference_mode():
            terms = self._terms(ids) - self.centre
            spread = terms * (ids.shape[1] / terms.shape[1])  # so that the ends do not change the mean
            return F.pad(spread, (0, 0, _SPAN // 2, _SPAN // 2)) + self.centre

    def activity(self, ids: np.ndarray) -> np.ndarray:
        """Activity (N, T) of ids (N, L): the mean over shifts, both promoters and both strands."""
        with torch.inference_mode():
            parts = [self._terms(part).mean(1) for part in torch.from_numpy(ids).split(512)]
        result: np.ndarray = torch.cat(parts).numpy()
        return result

    def _terms(self, ids: Tensor) -> Tensor:
        """(N, L - 12, T)."""
        both = self._of_strand(ids) + self._of_strand(reverse_complement_ids(ids.long())).flip(1)
        return self.places * both / 2 + self.bias

    def _of_strand(self, ids: Tensor) -> Tensor:
        return self.network.features(ids).transpose(1, 2) @ self.weight.T

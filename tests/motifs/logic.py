"""Models of known logic: a rule computes the prediction from motif sites, so the right answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret import Motif, reverse_complement


class Logic(nn.Module):
    """Occupancy of each motif's best site, on either strand, combined by a rule.

    Args:
        motifs: K of them.
        rule: from occupancies (N, K), of 0 to 1, to scores (N,).
        sharpness: of an occupancy, as a function of bits above half of a perfect site's.
    """

    targets, name, device, dtype = ("activity",), "logic", torch.device("cpu"), torch.float64

    def __init__(self, motifs: Sequence[Motif], rule: Callable[[Tensor], Tensor], sharpness: float = 0.6) -> None:
        super().__init__()
        self.motifs, self.rule, self.sharpness = motifs, rule, sharpness

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(torch.stack([self.occupancy(x, motif) for motif in self.motifs], dim=1)).unsqueeze(1)

    def sites(self, x: Tensor, motif: Motif) -> Tensor:
        """(N, 2, positions) occupancy by strand: that of the sequence, then the other."""
        odds = torch.from_numpy(np.stack([motif.log_odds, motif.log_odds[::-1, ::-1]]).copy())
        bits = F.conv1d(x[:, :4].double(), odds)
        return torch.sigmoid(self.sharpness * (bits - float(motif.log_odds.max(axis=0).sum()) / 2))

    def occupancy(self, x: Tensor, motif: Motif) -> Tensor:
        """(N,) of the best sites; smooth, so that every base of a site counts."""
        return 1 - (1 - self.sites(x, motif)).prod(dim=2).prod(dim=1)


class Affinity(Logic):
    """As `Logic`, but with binding strengths in nats, which strong sites do not saturate."""

    def occupancy(self, x: Tensor, motif: Motif) -> Tensor:
        odds = torch.from_numpy(np.stack([motif.log_odds, motif.log_odds[::-1, ::-1]]).copy())
        return (F.conv1d(x[:, :4].double(), odds) * math.log(2)).logsumexp((1, 2))


def planted(sequence: str, *sites: tuple[int, str]) -> str:
    """A sequence with strings in places."""
    for start, string in sites:
        sequence = sequence[:start] + string + sequence[start + len(string) :]
    return sequence


def oriented(motif: Motif, strand: str) -> str:
    """The consensus as it reads along a strand."""
    return motif.consensus if strand == "+" else reverse_complement(motif.consensus)

"""Baselines: k-mer ridge regression and a residual convolutional network.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet
from crossdna_interpret.training.tables import Table

__all__ = ["KmerRidge", "ResidualCNN", "kmer_counts"]


def kmer_counts(ids: list[np.ndarray], k: int) -> np.ndarray:
    """K-mer counts (N, number of different k-mers) float32. A k-mer and its reverse complement count as one.

    K-mers with N are ignored. Counts are divided by the number of k-mers in the sequence.
    """
    powers = 4 ** np.arange(k)[::-1]
    codes = np.arange(4**k)
    digits = codes[:, None] // powers % 4
    canonical = np.minimum(codes, (3 - digits)[:, ::-1] @ powers)
    columns = np.unique(canonical, return_inverse=True)[1]
    counts = np.zeros((len(ids), columns.max() + 1), dtype=np.float32)
    for row, own in enumerate(ids):
        if len(own) < k:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(own.astype(np.int64), k)
        known = windows[(windows != alphabet.N_ID).all(1)] @ powers
        np.add.at(counts[row], columns[known], 1 / len(windows))
    return counts


@dataclass(frozen=True)
class KmerRidge:
    """Ridge regression on k-mer counts of both strands.

    Attributes:
        k: length of a k-mer.
        weights: (columns,) weights of the standardised counts.
        mean, scale: (columns,) mean and scale of the counts.
        offset: constant term.
    """

    k: int
    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    offset: float

    @classmethod
    def fit(cls, table: Table, k: int = 5, penalty: float = 1000.0) -> KmerRidge:
        """Fit the first target, minus the mean of its covariate's level, with the table's weights."""
        counts = kmer_counts(list(table.ids), k)
        weight = table.weight[:, None]
        y = table.targets[:, 0].astype(np.float64)
        overall = float(np.average(y, weights=table.weight))
        for level in np.unique(table.level):
            rows = table.level == level
            y[rows] -= np.average(y[rows], weights=table.weight[rows])
        mean, scale = counts.mean(0), counts.std(0) + 1e-6
        x = (counts - mean) / scale
        system = x.T @ (weight * x) + penalty * np.eye(x.shape[1])
        return cls(k, np.linalg.solve(system, x.T @ (table.weight * y)), mean, scale, overall)

    def predict(self, ids: list[np.ndarray]) -> np.ndarray:
        """Predictions (N,) for N arrays of ids."""
        result: np.ndarray = (kmer_counts(ids, self.k) - self.mean) / self.scale @ self.weights + self.offset
        return result


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 7, padding=3 * dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.norm(self.conv(x))))


class ResidualCNN(nn.Module):
    """A plain convolutional network of about half a million parameters: (N, 5, L) -> (N, T).

    A convolution of width 15, four residual blocks with dilations 1, 2, 4 and 8, and the mean over positions.
    """

    def __init__(self, targets: int = 1, width: int = 120, dropout: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv1d(len(alphabet.ALPHABET), width, 15, padding=7)
        self.norm = nn.BatchNorm1d(width)
        self.blocks = nn.Sequential(*(_Residual(width, dilation) for dilation in (1, 2, 4, 8)))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, targets)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.blocks(F.gelu(self.norm(self.stem(x)))).mean(-1)
        return self.linear(self.dropout(pooled))

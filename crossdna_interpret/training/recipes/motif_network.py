"""A convolutional network whose first layer is initialised with known motifs.

N  sequences    L  positions    M  motifs    C  channels    T  targets
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.training.recipes.motif_scan import MotifScan

__all__ = ["MotifNetwork", "informative_motifs", "motif_filters"]


class MotifNetwork(nn.Module):
    """Channels (N, 5, L) -> scores (N, T), for sequences of one length.

    The first layer has a filter for each strand of each motif, and further filters without motif. All are trained.
    Their outputs are mixed, passed through dilated convolutions with skip connections, and averaged within bins, so
    that the distance of a motif from the promoter counts.

    Args:
        motifs: M motifs.
        targets: number of outputs.
        length: L.
        width: channels after the first layer.
        free: filters that do not begin as a motif.
        bins: bins of positions. They must divide L.
        dropout: dropout rate.
        seed: seed of the weights.

    Raises:
        ValueError: the bins do not divide the length.
    """

    def __init__(
        self,
        motifs: Sequence[Motif],
        targets: int,
        *,
        length: int,
        width: int = 96,
        free: int = 64,
        bins: int = 8,
        dropout: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if bins < 1 or length % bins:
            raise ValueError(f"`bins` must divide the {length} bases, but is {bins}.")
        self.length = length
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            filters = motif_filters(motifs, 15)
            self.scan = nn.Conv1d(5, len(filters) + free, 15, padding=7)
            with torch.no_grad():
                nn.init.normal_(self.scan.weight[len(filters) :], std=0.3)
                self.scan.weight[: len(filters)] = filters
                self.scan.weight[:, 4] = 0
                assert self.scan.bias is not None
                self.scan.bias.fill_(-1.0)
            self.scan_norm = nn.BatchNorm1d(len(filters) + free)
            self.mix = nn.Conv1d(len(filters) + free, width, 1)
            self.layers = nn.ModuleList(_Residual(width, dilation, dropout) for dilation in (1, 2, 4, 8))
            self.bins = bins
            self.norm = nn.BatchNorm1d(width)
            self.out = nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(width * bins, 128),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(128, targets),
            )

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != self.length:
            raise ValueError(f"`x` must have {self.length} bases, but has {x.shape[2]}.")
        h = self.mix(F.silu(self.scan_norm(self.scan(x))))
        for layer in self.layers:
            h = h + layer(h)
        binned = F.silu(self.norm(h)).unflatten(2, (self.bins, -1)).mean(3)
        scores: Tensor = self.out(binned.flatten(1))
        return scores


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.conv = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
        self.dropout = nn.Dropout1d(dropout / 2)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.dropout(F.silu(self.conv(F.silu(self.norm(x))))))
        return y


def motif_filters(motifs: Sequence[Motif], width: int, *, reverse: bool = True) -> Tensor:
    """Filters (2 M, 5, width) of motifs, then of their reverse complements. N has the weight zero.

    A filter has the log-odds of the motif, minus their mean at each position, scaled so that its output on random bases
    has unit variance. A motif that is wider is cut to the positions with the most information.

    Args:
        motifs: M motifs.
        width: positions of a filter.
        reverse: whether to add the reverse complements. Without them, (M, 5, width).

    Raises:
        ValueError: a motif without information.
    """
    strands = []
    for flip in (False, True) if reverse else (False,):
        filters = np.zeros((len(motifs), 5, width), dtype=np.float32)
        for one, motif in zip(filters, motifs, strict=True):
            odds = np.log(np.maximum(motif.probabilities, 0.01) * 4)
            bits = (motif.probabilities * np.log2(np.maximum(motif.probabilities, 1e-9) * 4)).sum(0)
            size = min(width, odds.shape[1])
            begin = int(np.argmax(np.convolve(bits, np.ones(size), mode="valid")))
            odds = odds[:, begin : begin + size]
            odds = odds - odds.mean(0)
            if flip:
                odds = odds[::-1, ::-1]
            at = (width - size) // 2
            scale = np.sqrt((odds**2).mean(0).sum())
            if scale < 1e-6:
                raise ValueError(f"`motifs`: {motif.id} is equally likely for all bases, so it has no filter.")
            one[:4, at : at + size] = odds / scale
        strands.append(filters)
    return torch.from_numpy(np.concatenate(strands))


def informative_motifs(ids: Tensor, values: np.ndarray, motifs: Sequence[Motif], keep: int) -> list[Motif]:
    """The motifs whose matches explain values best, chosen greedily by least squares.

    Args:
        ids: (N, L) sequences.
        values: (N,) what is explained, without NaN.
        motifs: the candidates.
        keep: number of motifs. All, if there are fewer candidates.
    """
    scan = MotifScan(motifs)
    totals = torch.cat([scan.totals(part)[:, :, 1] for part in ids.split(256)]).double().numpy()
    totals = (totals - totals.mean(0)) / np.maximum(totals.std(0), 1e-9)
    residual = values - values.mean()
    chosen: list[int] = []
    while len(chosen) < min(keep, len(motifs)):
        gain = np.abs(totals.T @ residual)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        columns = totals[:, chosen]
        fitted = columns @ np.linalg.lstsq(columns, values - values.mean(), rcond=None)[0]
        residual = values - values.mean() - fitted
    return [motifs[at] for at in chosen]

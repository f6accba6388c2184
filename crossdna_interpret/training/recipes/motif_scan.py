"""Motif features of sequences.

N  sequences    L  positions    M  motifs    F  features of a motif
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.motifs.collection import Motif

__all__ = ["COMPOSITION", "FEATURES", "POSITION", "MotifScan", "composition"]

FEATURES = (
    "best", "second", "total_soft", "total", "total_sharp", "above_60", "above_75", "position", "from_centre"
)  # fmt: skip
POSITION = FEATURES.index("position")
COMPOSITION = 4 + 16  # single bases, then pairs
_NOWHERE = -99.0
_DECIMALS = 3  # rounding, so that equal matches are bit-identical in both orientations


class MotifScan:
    """Scores of motifs on both strands of sequences.

    At each position, the better strand of a motif counts. The features are:

    - the best and the second-best log-odds;
    - log of the sum of exp(t log-odds) for t = 1/2, 1 and 3/2;
    - numbers of positions above 60 % and 75 % of the highest possible log-odds;
    - position of the best match (the middle one of several equal matches);
    - mean distance from the centre, weighted by each position's part of the sum for t = 1.

    Only the position depends on the orientation of the sequence. An N has score 0.

    Args:
        motifs: M motifs.
    """

    def __init__(self, motifs: Sequence[Motif]) -> None:
        odds = [np.log(motif.probabilities * 4).astype(np.float32) for motif in motifs]
        self.motifs = list(motifs)
        self.widths = torch.tensor([each.shape[1] for each in odds])
        self._widest = int(self.widths.max())
        both = np.zeros((2, len(odds), self._widest, 4), dtype=np.float32)
        for at, each in enumerate(odds):
            both[0, at, : each.shape[1]] = each.T
            both[1, at, : each.shape[1]] = each[::-1, ::-1].T
        self._weight = torch.from_numpy(both).flatten(0, 1).flatten(1).t().contiguous()  # (4 widest, 2 M)
        self._highest = torch.tensor([each.max(0).sum() for each in odds])

    def __len__(self) -> int:
        return len(self.motifs)

    def matches(self, ids: Tensor) -> Tensor:
        """Log-odds (N, L, M) of a motif that begins at each position of ids (N, L), on the better strand.

        Positions where the motif does not fit have a very low value.
        """
        x = F.one_hot(ids.long(), 5)[..., :4].float()
        windows = F.pad(x, (0, 0, 0, self._widest - 1)).flatten(1).unfold(1, 4 * self._widest, 4)
        strands = (windows.reshape(-1, 4 * self._widest) @ self._weight).view(*ids.shape, 2, len(self))
        fits = torch.arange(ids.shape[1]).unsqueeze(1) <= ids.shape[1] - self.widths
        return strands.amax(2).round(decimals=_DECIMALS).masked_fill(~fits, _NOWHERE)

    def totals(self, ids: Tensor) -> Tensor:
        """Only the features "best" and "total" (N, M, 2) of ids (N, L)."""
        matches = self.matches(ids)
        return torch.stack([matches.amax(1), matches.logsumexp(1)], dim=2).round(decimals=_DECIMALS)

    def features(self, ids: Tensor) -> Tensor:
        """Features (N, M, F) of ids (N, L), in the order of `FEATURES`."""
        matches = self.matches(ids)
        length = ids.shape[1]
        best = matches.topk(2, dim=1).values
        last = length - 1 - matches.flip(1).argmax(1)
        total = matches.logsumexp(1)
        share = torch.exp(matches - total.unsqueeze(1))
        from_centre = torch.arange(length).unsqueeze(1) - (length - self.widths) / 2
        return torch.stack(
            [
                best[:, 0],
                best[:, 1],
                (matches / 2).logsumexp(1),
                total,
                (matches * 1.5).logsumexp(1),
                (matches > 0.6 * self._highest).float().sum(1),
                (matches > 0.75 * self._highest).float().sum(1),
                (matches.argmax(1) + last) / 2,
                (share * from_centre.abs()).sum(1),
            ],
            dim=2,
        ).round(decimals=_DECIMALS)

    def of_reverse(self, features: Tensor, length: int) -> Tensor:
        """Features (N, M, F) of the reverse complements, from those of the sequences of `length` bases."""
        result = features.clone()
        result[..., POSITION] = length - self.widths - features[..., POSITION]
        return result


def composition(ids: Tensor) -> Tensor:
    """Fractions (N, 20) of A, C, G, T and of the sixteen pairs from AA to TT, of ids (N, L)."""
    x = F.one_hot(ids.long(), 5)[..., :4].float()
    pairs = torch.einsum("nla,nlb->nab", x[:, :-1], x[:, 1:]) / max(1, ids.shape[1] - 1)
    return torch.cat([x.mean(1), pairs.flatten(1)], dim=1)

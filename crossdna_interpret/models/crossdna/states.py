"""States of a pass over one sequence, from which passes over other sequences resume.

l  positions of a block    n  heads of Comba    d, d_v  sizes of its keys and values
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.models.crossdna.recurrence import RecurrenceTrace

__all__ = ["AttentionPast", "AttentionTrace", "CombaPast", "CombaTrace", "Resumed", "offsets_of"]


@dataclass(frozen=True)
class AttentionPast:
    """Rotated keys and values (1, kv_heads, start, d) of the `start` positions before the first; see `rotate`."""

    keys: Tensor
    values: Tensor


@dataclass
class AttentionTrace:
    """What a pass over one sequence leaves behind: rotated keys and values (1, kv_heads, l, d)."""

    keys: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class CombaPast:
    """What Comba needs of the positions before the first: `tail` (1, conv_size - 1, channels) of the projections that
    are convolved (None without convolution), and `state` (n, d, d_v) of the recurrence."""

    tail: Tensor | None
    state: Tensor


@dataclass
class CombaTrace:
    """What a pass over one sequence leaves behind: all projections (1, l, ...), and the recurrence."""

    projected: Tensor | None = None
    recurrence: RecurrenceTrace = field(default_factory=RecurrenceTrace)


def offsets_of(sizes: np.ndarray) -> Tensor:
    """(n + 1,) offsets of concatenated sequences of these sizes, with the end of the last one."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))


class Resumed:
    """Sequences of one length that are taken up at positions of their own, each after the same ones before it.

    Their activations are concatenated as if they were one sequence (1, T, ...).

    Args:
        starts: (n,) where each is taken up.
        length: of the sequences.

    Attributes:
        starts: (n,) as given.
        offsets: (n + 1,) where each begins among the T positions.
        places: (p,) the different ones among the starts.
        which: (n,) the number of each start among them.
    """

    def __init__(self, starts: np.ndarray, length: int) -> None:
        self.length = length
        self.starts = torch.from_numpy(starts.astype(np.int32))
        self.offsets = offsets_of(length - starts)
        self.places, which = np.unique(starts, return_inverse=True)
        self.which = torch.from_numpy(which.astype(np.int32))

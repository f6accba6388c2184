"""States of a pass over one sequence, from which passes over other sequences can continue.

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
    """Rotated keys and values (1, kv_heads, start, d) of the `start` positions before the first. See `rotate`."""

    keys: Tensor
    values: Tensor


@dataclass
class AttentionTrace:
    """Stored values of a pass over one sequence: rotated keys and values (1, kv_heads, l, d)."""

    keys: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class CombaPast:
    """What Comba needs from the positions before the first.

    Attributes:
        tail: (1, conv_size - 1, channels) the last inputs of the convolution, or None without convolution.
        state: (n, d, d_v) state of the recurrence.
    """

    tail: Tensor | None
    state: Tensor


@dataclass
class CombaTrace:
    """Stored values of a pass over one sequence: all projections (1, l, ...) and the trace of the recurrence."""

    projected: Tensor | None = None
    recurrence: RecurrenceTrace = field(default_factory=RecurrenceTrace)


def offsets_of(sizes: np.ndarray) -> Tensor:
    """Offsets (n + 1,) of concatenated sequences of these sizes, with the end of the last."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))


class Resumed:
    """Sequences of one length that each continue the reference from their own start position.

    Their activations are concatenated as if they were one sequence (1, T, ...).

    Args:
        starts: (n,) start position of each sequence.
        length: length of the sequences.

    Attributes:
        starts: (n,) start positions.
        offsets: (n + 1,) offset of each sequence in the T positions.
        places: (p,) unique start positions.
        which: (n,) index in `places` of each start.
    """

    def __init__(self, starts: np.ndarray, length: int) -> None:
        self.length = length
        self.starts = torch.from_numpy(starts.astype(np.int32))
        self.offsets = offsets_of(length - starts)
        self.places, which = np.unique(starts, return_inverse=True)
        self.which = torch.from_numpy(which.astype(np.int32))

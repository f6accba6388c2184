"""Sequences with the same dinucleotides in another order: what a regulatory sequence is compared with."""

from __future__ import annotations

import numpy as np
import torch

from crossdna_interpret import alphabet, strand
from crossdna_interpret.libraries import leaving_no_trace

__all__ = ["dinucleotide_shuffles"]


def dinucleotide_shuffles(sequence: str, count: int, seed: int) -> np.ndarray:
    """Shuffles that keep how often each pair of neighbours occurs; each stretch between Ns is shuffled by itself.

    They are the same shuffles of the duplex, whichever strand it is given by.

    Args:
        sequence: normalised, length L.
        count: how many.
        seed: decides the order. The global random state is neither read nor changed.

    Returns:
        (count, L) ids.
    """
    turned = strand.reverse_complement(sequence)
    drawn = _shuffled(alphabet.encode(min(sequence, turned)), count, seed)
    return drawn if sequence <= turned else strand.reverse_complement(drawn)


def _shuffled(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    from tangermeme.ersatz import dinucleotide_shuffle  # takes long to load, and not every analysis needs it

    result = np.repeat(ids[None], count, axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], ids == alphabet.N_ID, [True]])))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start < 3:  # a dinucleotide shuffle keeps both ends
            continue
        channels = torch.from_numpy(alphabet.one_hot(ids[None, start:end])[:, :4].astype(np.int8))
        with leaving_no_trace():
            try:
                shuffled = dinucleotide_shuffle(channels, n=count, random_state=[seed + int(start)])
            except ValueError:  # all draws agree: there may be one shuffle only, as of AAAA, and one draw says which
                shuffled = dinucleotide_shuffle(channels, n=1, random_state=[seed + int(start)])
        result[:, start:end] = shuffled[0].argmax(dim=1).numpy()
    return result

"""Pairs of measured sequences that differ by a few bases.

N  sequences    L  positions    P  pairs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret.dna import alphabet

__all__ = ["close_pairs", "kind_of_change"]

_COMPARED = 1 << 26  # bases that are compared at once
_PURINES = frozenset("AG")


def close_pairs(ids: np.ndarray, family: np.ndarray, most: int = 4) -> np.ndarray:
    """(P, 2) rows of one family whose sequences (N, L) differ in one to `most` positions.

    Example:
        >>> close_pairs(np.array([[0, 1, 2], [0, 1, 3], [0, 1, 3]]), np.array([7, 7, 8])).tolist()
        [[0, 1]]
    """
    pairs = [np.empty((0, 2), dtype=np.int64)]
    order = np.argsort(family, kind="stable")
    begins = np.flatnonzero(np.diff(family[order])) + 1
    for rows in np.split(order, begins):
        own = ids[rows]
        piece = max(1, _COMPARED // max(1, own.size))  # first members of pairs that are compared at once
        for first in range(0, len(rows), piece):
            apart = (own[first : first + piece, None] != own).sum(-1)
            one, other = np.nonzero(np.triu((apart >= 1) & (apart <= most), first + 1))
            pairs.append(np.stack([rows[first + one], rows[other]], axis=1))
    return np.concatenate(pairs)


def kind_of_change(reference: str, mutant: str, positions: Sequence[int]) -> str:
    """ "transition", "transversion", "other" (with an N) for a single change, and "2 changes" and so on for several.

    Example:
        >>> kind_of_change("ACGT", "GCGT", [0]), kind_of_change("ACGT", "TCGA", [0, 3])
        ('transition', '2 changes')
    """
    if len(positions) != 1:
        return f"{len(positions)} changes"
    bases = {reference[positions[0]], mutant[positions[0]]}
    if not bases <= set(alphabet.BASES):
        return "other"
    return "transition" if len(bases & _PURINES) != 1 else "transversion"

"""Pairs of measured sequences that differ by a few bases.

N  sequences    L  positions    P  pairs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossdna_interpret._compat import quiet_and_same_threads
from crossdna_interpret.dna import alphabet

__all__ = ["close_pairs", "kind_of_change", "unrelated_groups"]

_COMPARED = 1 << 26  # bases that are compared at once
_PURINES = frozenset("AG")


def close_pairs(ids: np.ndarray, family: np.ndarray, max_changes: int = 4) -> np.ndarray:
    """(P, 2) rows of one family whose sequences (N, L) differ in one to `max_changes` positions.

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
            one, other = np.nonzero(np.triu((apart >= 1) & (apart <= max_changes), first + 1))
            pairs.append(np.stack([rows[first + one], rows[other]], axis=1))
    return np.concatenate(pairs)


def unrelated_groups(families: np.ndarray, sequences: Sequence[str], pairs: np.ndarray) -> np.ndarray:
    """(P,) group of each pair (P, 2) of rows. Families that share a pair of sequences are one group.

    Such families are not independent. The numbers of the groups do not depend on the order of the rows.

    Args:
        families: (N,) family of each row.
        sequences: N sequences.
        pairs: (P, 2) rows of one family.

    Example:
        >>> unrelated_groups(np.array([0, 0, 1, 1]), ["AC", "AG", "AG", "AC"], np.array([[0, 1], [2, 3]])).tolist()
        [0, 0]
    """
    with quiet_and_same_threads():  # its import sets warning filters
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
    of_sequence, _ = pd.factorize(np.asarray(sequences, dtype=object), sort=True)
    of_family, names = pd.factorize(np.asarray(families, dtype=object)[pairs[:, 0]])
    _, first, of_pair = np.unique(np.sort(of_sequence[pairs], axis=1), axis=0, return_index=True, return_inverse=True)
    of_pair = of_pair.reshape(-1)  # pairs are in alphabetical order
    size = len(names) + len(first)
    links = coo_matrix((np.ones(len(pairs)), (of_family, len(names) + of_pair)), shape=(size, size))
    group = connected_components(links, directed=False)[1][of_family]
    # A group is numbered by its first pair, which no other group has.
    lowest = np.full(group.max() + 1, len(first))
    np.minimum.at(lowest, group, of_pair)
    numbered: np.ndarray = np.unique(lowest[group], return_inverse=True)[1]
    return numbered


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

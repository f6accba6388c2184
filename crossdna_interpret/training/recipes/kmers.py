"""20-mers, to remove training sequences that overlap held-out ones.

N  sequences    L  positions
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement_ids

__all__ = ["K", "held_out_kmers", "kmer_codes", "without_kmers"]

K = 20


def kmer_codes(ids: np.ndarray) -> np.ndarray:
    """Integer codes (N, L - 19) of the 20-mers of ids (N, L) without N."""
    result = np.zeros((len(ids), ids.shape[1] - K + 1), dtype=np.uint64)
    for at in range(K):
        result = result * np.uint64(4) + ids[:, at : at + result.shape[1]].astype(np.uint64)
    return result


def held_out_kmers(sequences: Sequence[str]) -> np.ndarray:
    """Integer codes of all 20-mers of sequences and of their reverse complements, sorted."""
    parts = []
    for sequence in sequences:
        for stretch in sequence.split("N"):
            if len(stretch) >= K:
                ids = alphabet.encode(stretch)[None]
                parts += [kmer_codes(ids)[0], kmer_codes(reverse_complement_ids(ids))[0]]
    return np.unique(np.concatenate(parts))


def without_kmers(windows: np.ndarray, kmers: np.ndarray) -> np.ndarray:
    """The windows (N, L) that have none of these k-mers."""
    parts = np.array_split(windows, max(1, len(windows) // 4096))
    clean = np.concatenate([~np.isin(kmer_codes(part), kmers).any(1) for part in parts])
    kept: np.ndarray = windows[clean]
    return kept

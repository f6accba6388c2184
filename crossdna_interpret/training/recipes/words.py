"""Words of 20 bases, to keep what is held out away from training.

N  sequences    L  positions
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement_ids

__all__ = ["WORD", "held_out_words", "without", "words_of"]

WORD = 20


def words_of(ids: np.ndarray) -> np.ndarray:
    """Numbers (N, L - 19) of the 20-mers of ids (N, L) without N."""
    result = np.zeros((len(ids), ids.shape[1] - WORD + 1), dtype=np.uint64)
    for at in range(WORD):
        result = result * np.uint64(4) + ids[:, at : at + result.shape[1]].astype(np.uint64)
    return result


def held_out_words(sequences: Sequence[str]) -> np.ndarray:
    """Numbers of all 20-mers of sequences and of their reverse complements, sorted."""
    parts = []
    for sequence in sequences:
        for stretch in sequence.split("N"):
            if len(stretch) >= WORD:
                ids = alphabet.encode(stretch)[None]
                parts += [words_of(ids)[0], words_of(reverse_complement_ids(ids))[0]]
    return np.unique(np.concatenate(parts))


def without(windows: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The windows (N, L) that hold none of the words."""
    parts = np.array_split(windows, max(1, len(windows) // 4096))
    clean = np.concatenate([~np.isin(words_of(part), words).any(1) for part in parts])
    kept: np.ndarray = windows[clean]
    return kept

"""Windows of human sequence, without what is held out.

N  windows    L  positions
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement_ids

__all__ = ["WORD", "genome_windows", "held_out_words", "known_sequences", "without", "words_of"]

WORD = 20  # bases that a training window must not share with a held-out sequence


def known_sequences(folder: str | Path) -> list[str]:
    """All sequences of the tables `*.tsv.gz` of a folder, from their column `seq`.

    Raises:
        FileNotFoundError: there is no such table.
    """
    paths = sorted(Path(folder).glob("*.tsv.gz"))
    if not paths:
        raise FileNotFoundError(f"`folder` must hold tables *.tsv.gz, but {folder} has none.")
    return [alphabet.normalize(each) for path in paths for each in pd.read_csv(path, sep="\t")["seq"]]


def genome_windows(sequences: Iterable[str], length: int, step: int) -> np.ndarray:
    """Windows (N, length) uint8 without N, every `step` bases, and one at the end of each sequence."""
    windows = []
    for sequence in sequences:
        ids = alphabet.encode(sequence).astype(np.uint8)
        last = len(ids) - length
        if last < 0:
            continue
        starts = sorted({*range(0, last + 1, step), last})
        windows += [ids[start : start + length] for start in starts]
    result = np.stack(windows)
    return result[(result < 4).all(1)]


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

"""Windows of human sequence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret.dna import alphabet

__all__ = ["genome_windows", "known_sequences"]


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

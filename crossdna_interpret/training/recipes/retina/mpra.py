"""The retina MPRA table: enhancer activity of 164-bp sequences in explanted newborn mouse retinas.

Source: Friedman et al. 2021 (eLife 10:e67403) and 2025 (Cell Systems, doi 10.1016/j.cels.2024.12.004), raw barcode
counts in barakcohenlab/CRX-Active-Learning (BSD 3-Clause). The table is computed from the counts in these steps:

1. Keep barcodes with at least 50 DNA counts.
2. Convert RNA and DNA to counts per million, and divide RNA by DNA.
3. Average over the barcodes of a sequence, relative to the basal Rho promoter (libraries 6 and 7: to scrambled
   sequences).
4. Drop sequences whose RNA has a coefficient of variation above 0.8 between replicates.
5. Average over replicates, and take log2(x + 0.001).

Chromosomes 3, 13, 16 and 17 are for validation. Sequences that share a 32-mer with a later split are removed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from crossdna_interpret.dna import alphabet
from crossdna_interpret.measured.laboratory import paired_with_mutant
from crossdna_interpret.training.recipes.retina.mutation_pairs import MutationPairs
from crossdna_interpret.training.tables import Table, read_table

__all__ = ["LENGTH", "LIBRARIES", "read_mutation_pairs", "read_split"]

LENGTH = 164
LIBRARIES = (1, 2, 3, 4, 5, 6, 7)


def read_split(folder: str | Path, split: str) -> Table:
    """Read `<split>.tsv.gz` of the table.

    The target is activity, log2 relative to the basal promoter. The weight of a row is n / (n + 2) for n barcodes:
    measurement noise decreases with the number of barcodes, other noise does not. The covariate is the library.

    Args:
        folder: folder of `train.tsv.gz` and `valid.tsv.gz`.
        split: "train" or "valid".

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a column is missing, a sequence is not DNA or not 164 bp, or a value is not a finite number. The
            message has the first such row (1-based, without the header).
    """
    path = Path(folder) / f"{split}.tsv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"`folder` must hold {split}.tsv.gz, but there is none at {path}.")
    table = read_table(path, targets=["log2_activity"], covariate="library", weight="n_barcodes")["train"]
    short = next((i for i, ids in enumerate(table.ids) if len(ids) != LENGTH), None)
    if short is not None:
        raise ValueError(f"{path}, row {short + 1}: the sequence has {len(table.ids[short])} bases, expected {LENGTH}.")
    names = [str(library) for library in LIBRARIES]
    unknown = np.flatnonzero([table.levels[level] not in names for level in table.level])
    if unknown.size:
        raise ValueError(f"{path}, row {unknown[0] + 1}: library must be one of {LIBRARIES}.")
    library = np.array([names.index(table.levels[level]) for level in table.level], dtype=np.int64)
    return replace(table, weight=_weight(table.weight), level=library, levels=tuple(names))


def _weight(barcodes: np.ndarray) -> np.ndarray:
    weight: np.ndarray = barcodes / (barcodes + 2)
    return weight


def read_mutation_pairs(folder: str | Path) -> MutationPairs:
    """Read the training enhancers that were measured both unchanged and with all CRX sites mutated.

    The weight of a pair is w v / (w + v), where w and v are the weights of its rows in `read_split`.

    Raises:
        FileNotFoundError, ValueError: the file or a column is missing.
        NoPairsError: there are no pairs.
    """
    pairs = paired_with_mutant(Path(folder) / "train.tsv.gz", more=["n_barcodes"])
    wild, mutant = (_weight(pairs[f"n_barcodes_{side}"].to_numpy(dtype=np.float32)) for side in ("wild", "mutant"))
    before, after = (
        torch.from_numpy(np.stack([alphabet.encode(each) for each in pairs[f"sequence_{side}"]]))
        for side in ("wild", "mutant")
    )
    change = pairs["log2_activity_mutant"] - pairs["log2_activity_wild"]
    return MutationPairs(
        before,
        after,
        torch.from_numpy(change.to_numpy(dtype=np.float32)),
        torch.from_numpy(wild * mutant / (wild + mutant)),
    )

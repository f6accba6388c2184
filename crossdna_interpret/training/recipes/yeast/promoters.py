"""The table of yeast promoters: expression of 80-bp sequences in two media.

Source: Vaishnav et al. 2022 (Nature 603:455, doi 10.1038/s41586-022-04506-6), test data in 1edv/evolution (MIT). A
family is a set of sequences that share 20-mers, such as the mutants of one parent sequence. Whole families are on
one side of a split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret.dna import alphabet
from crossdna_interpret.training.recipes.families import Families

__all__ = ["LENGTH", "TARGETS", "read_split", "well_measured"]

LENGTH = 80
TARGETS = ("complex", "defined")
_SHALLOW = 0.2  # weight of a row with a whole number, which rests on few reads


def read_split(folder: str | Path, split: str) -> Families:
    """Read `<split>.tsv.gz` of the table.

    Args:
        folder: folder of `train.tsv.gz` and `valid.tsv.gz`.
        split: "train" or "valid".

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a column is missing, a sequence is not DNA or not 80 bp, or a row has no family or no finite
            measurement.
    """
    path = Path(folder) / f"{split}.tsv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"`folder` must hold {split}.tsv.gz, but there is none at {path}.")
    table = pd.read_csv(path, sep="\t")
    missing = [name for name in ("sequence", "family", *TARGETS) if name not in table.columns]
    if missing:
        raise ValueError(f"{path} must have the columns sequence, family, {', '.join(TARGETS)}, but lacks {missing}.")
    sequences = [alphabet.normalize(each, name=f"{path}, row {row + 1}") for row, each in enumerate(table["sequence"])]
    other = next((row for row, each in enumerate(sequences) if len(each) != LENGTH), None)
    if other is not None:
        raise ValueError(f"{path}, row {other + 1}: the sequence has {len(sequences[other])} bases, expected {LENGTH}.")
    if not pd.api.types.is_numeric_dtype(table[TARGETS[0]]) or not pd.api.types.is_numeric_dtype(table[TARGETS[1]]):
        raise ValueError(f"{path}: {' and '.join(TARGETS)} must be numbers, but hold text.")
    targets = table[list(TARGETS)].to_numpy(dtype=np.float32)
    if np.isinf(targets).any():
        raise ValueError(f"{path}, row {int(np.isinf(targets).any(1).argmax()) + 1}: a measurement is infinite.")
    if table["family"].isna().any():
        raise ValueError(f"{path}, row {int(table['family'].isna().to_numpy().argmax()) + 1}: family is missing.")
    nothing = np.flatnonzero(np.isnan(targets).all(1))
    if nothing.size:
        raise ValueError(f"{path}, row {nothing[0] + 1}: no medium is measured.")
    whole = (targets % 1 == 0).any(1)
    ids = np.stack([alphabet.encode(each) for each in sequences]).astype(np.uint8)
    weight = np.where(whole, _SHALLOW, 1).astype(np.float32)
    return Families.of(ids, targets, weight, pd.factorize(table["family"])[0], TARGETS)


def well_measured(path: str | Path) -> pd.DataFrame:
    """All rows of a table file, with measurements that are whole numbers, from few reads, set to NaN.

    Columns: sequence, family, and the targets, NaN where there is no such measurement.
    """
    table = pd.read_csv(path, sep="\t")[["sequence", "family", *TARGETS]]
    return table.assign(**{name: table[name].where(table[name] % 1 != 0) for name in TARGETS})

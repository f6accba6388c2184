"""Small tables in the form of the retina MPRA, for the scripts that read its folder."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd


def mpra_table(rows: int, seed: int = 0) -> pd.DataFrame:
    """A table with the columns of the retina MPRA, in which every G adds to the activity."""
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 164)) for _ in range(rows)]
    return pd.DataFrame(
        {
            "id": [f"row{i}" for i in range(rows)],
            "sequence": sequences,
            "log2_activity": [0.05 * sequence.count("G") for sequence in sequences],
            "n_barcodes": random.integers(1, 4, rows),
            "library": 1 + np.arange(rows) % 7,
            "chrom": "chr1",
        }
    )


def write_split(folder: Path, split: str, frame: pd.DataFrame) -> None:
    """The table as the file of a split."""
    with gzip.open(folder / f"{split}.tsv.gz", "wt") as file:
        frame.to_csv(file, sep="\t", index=False)

"""The retina MPRA table: enhancer activity of 164-bp sequences in explanted newborn mouse retinas.

Source: Friedman et al. 2021 (eLife 10:e67403) and 2025 (Cell Systems, doi 10.1016/j.cels.2024.12.004), raw barcode
counts in barakcohenlab/CRX-Active-Learning (BSD 3-Clause). The table is rebuilt from the counts so: keep barcodes
with at least 50 DNA counts; RNA and DNA as counts per million; RNA/DNA; mean over the barcodes of a sequence,
relative to the basal Rho promoter (libraries 6 and 7: to scrambled sequences); drop sequences whose RNA varies by
more than 0.8 (coefficient of variation) between replicates; mean over replicates; log2(x + 0.001). Chromosomes 3,
13, 16 and 17 are for validation. Sequences that share a 32-mer with a later split are removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crossdna_interpret import alphabet

__all__ = ["COLUMNS", "LIBRARIES", "MpraTable", "read_split"]

COLUMNS = ("id", "sequence", "log2_activity", "n_barcodes", "library", "chrom")
LIBRARIES = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, eq=False)
class MpraTable(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """One split: ids (N, 164) uint8, activity (N,) log2 relative to the basal promoter, weight (N,), library (N,) 0-6.

    The weight is n / (n + 2) for n barcodes: measurement noise falls with the barcodes, other noise does not.
    """

    ids: Tensor
    activity: Tensor
    weight: Tensor
    library: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.ids[index], self.activity[index], self.weight[index], self.library[index]


def read_split(folder: str | Path, split: str) -> MpraTable:
    """Read `<split>.tsv.gz` of the table.

    Args:
        folder: where `train.tsv.gz` and `valid.tsv.gz` are.
        split: "train" or "valid".

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a sequence is not DNA or not 164 bp, or a value is not a finite number; the
            message names the first row (1-based, without the header).
    """
    path = Path(folder) / f"{split}.tsv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"`folder` must hold {split}.tsv.gz, but there is none at {path}.")
    table = pd.read_csv(path, sep="\t", dtype={"sequence": str})
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {list(table.columns)}.")
    numbers = table[["log2_activity", "n_barcodes"]].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if bad.size:
        raise ValueError(f"{path}, row {bad[0] + 1}: log2_activity and n_barcodes must be finite numbers.")
    unknown = np.flatnonzero(~table["library"].isin(LIBRARIES))
    if unknown.size:
        raise ValueError(f"{path}, row {unknown[0] + 1}: library must be one of {LIBRARIES}.")
    encoded = [alphabet.encode(alphabet.normalize(seq, name=f"row {i + 1}")) for i, seq in enumerate(table["sequence"])]
    short = next((i for i, ids in enumerate(encoded) if len(ids) != 164), None)
    if short is not None:
        raise ValueError(f"{path}, row {short + 1}: the sequence has {len(encoded[short])} bases, expected 164.")
    barcodes = torch.from_numpy(numbers[:, 1].astype(np.float32))
    return MpraTable(
        ids=torch.from_numpy(np.stack(encoded).astype(np.uint8)),
        activity=torch.from_numpy(numbers[:, 0].astype(np.float32)),
        weight=barcodes / (barcodes + 2),
        library=torch.from_numpy(table["library"].to_numpy(dtype=np.int64) - 1),
    )

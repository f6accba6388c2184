"""Measured sequences from a table.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crossdna_interpret import alphabet

__all__ = ["Batch", "LeakWarning", "Table", "read_table"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class LeakWarning(UserWarning):
    """A sequence, or its reverse complement, is in more than one split."""


@dataclass(frozen=True, eq=False)
class Table:
    """Sequences and what was measured of them.

    Attributes:
        ids: N arrays (L,) uint8, of any lengths.
        targets: (N, T) float32.
        weight: (N,) float32, how much a row counts.
        level: (N,) int64, number of the covariate's level.
        target_names: T names.
        levels: names of the covariate's levels; one empty name where there is no covariate.
    """

    ids: Sequence[np.ndarray]
    targets: np.ndarray
    weight: np.ndarray
    level: np.ndarray
    target_names: tuple[str, ...]
    levels: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        n = len(self.ids)
        expected = {"targets": (n, len(self.target_names)), "weight": (n,), "level": (n,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"`{name}` must have shape {shape}, but has {getattr(self, name).shape}.")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) bases of each sequence."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def rows(self, index: Sequence[int] | np.ndarray) -> Table:
        """Some of the rows, in the order given."""
        at = np.asarray(index, dtype=np.int64)
        ids = [self.ids[i] for i in at]
        return Table(ids, self.targets[at], self.weight[at], self.level[at], self.target_names, self.levels)

    def level_offsets(self) -> np.ndarray:
        """(levels, T) float32: each level's mean less the mean of all rows; zero for a level without rows."""
        overall = self.targets.mean(0)
        offsets = np.zeros((len(self.levels), len(self.target_names)), dtype=np.float32)
        for level in np.unique(self.level):
            offsets[level] = self.targets[self.level == level].mean(0) - overall
        return offsets

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """Rows of equal length as tensors: ids (n, L), targets (n, T), weight (n,), level (n,)."""
        at = np.asarray(index, dtype=np.int64)
        columns = np.stack([self.ids[i] for i in at]), self.targets[at], self.weight[at], self.level[at]
        ids, targets, weight, level = map(torch.from_numpy, columns)
        return ids, targets, weight, level


def read_table(
    path: str | Path,
    *,
    targets: Sequence[str],
    sequence: str = "sequence",
    covariate: str | None = None,
    weight: str | None = None,
    split: str | None = None,
) -> dict[str, Table]:
    """Read a table of tab-separated values, plain or gzipped, with a header.

    Args:
        path: the file.
        targets: columns with what is to be predicted, finite numbers.
        sequence: column with DNA; of any lengths, in either case, N allowed.
        covariate: column whose levels get an offset of their own, such as the library of a measurement.
        weight: column with how much a row counts, numbers of at least 0.
        split: column that tells the split of a row.

    Returns:
        A table for each split, in the order of the file; under "train" if there is no such column.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no rows, a missing column, or a value that cannot be; the message names the column and the first row
            (1-based, without the header).

    Warns:
        LeakWarning: a sequence or its reverse complement is in two splits.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a table, but there is no file {path}.")
    if isinstance(targets, str) or not targets:
        raise ValueError(f"`targets` must be a list of at least one column, but got {targets!r}.")
    wanted = [sequence, *targets, *(name for name in (covariate, weight, split) if name is not None)]
    try:
        table = pd.read_csv(path, sep="\t", dtype={sequence: str}, keep_default_na=True)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read as tab-separated values: {error}") from error
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {list(table.columns)}.")
    if table.empty:
        raise ValueError(f"{path} has no rows.")
    measured = np.stack([_numbers(path, table, name) for name in targets], axis=1).astype(np.float32)
    weights = np.ones(len(table)) if weight is None else _numbers(path, table, weight)
    if (weights < 0).any():
        raise ValueError(f"{path}, row {int((weights < 0).argmax()) + 1}: {weight} must be at least 0.")
    texts = {name: _texts(path, table, name) for name in (covariate, split) if name is not None}
    levels: tuple[str, ...] = ("",)
    level = np.zeros(len(table), dtype=np.int64)
    if covariate is not None:
        names, level = np.unique(texts[covariate], return_inverse=True)
        levels = tuple(str(name) for name in names)
    ids = [
        alphabet.encode(alphabet.normalize(seq, name=f"{path}, row {row + 1}")).astype(np.uint8)
        for row, seq in enumerate(table[sequence].where(table[sequence].notna(), ""))
    ]
    whole = Table(ids, measured, weights.astype(np.float32), level.astype(np.int64), tuple(targets), levels)
    if split is None:
        return {"train": whole}
    _warn_of_leaks(path, ids, texts[split])
    return {str(name): whole.rows(np.flatnonzero(texts[split] == name)) for name in dict.fromkeys(texts[split])}


def _numbers(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{path}, row {row + 1}: {name} must be a finite number, but is {str(table[name].iloc[row])!r}."
        )
    return values


def _texts(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    empty = table[name].isna().to_numpy()
    if empty.any():
        raise ValueError(f"{path}, row {int(empty.argmax()) + 1}: {name} is empty.")
    return table[name].astype(str).to_numpy(dtype=object)


def _warn_of_leaks(path: Path, ids: list[np.ndarray], splits: np.ndarray) -> None:
    seen: dict[bytes, tuple[int, str]] = {}
    leaks: list[tuple[int, int]] = []
    for row, (own, split) in enumerate(zip(ids, splits, strict=True)):
        either = min(own.tobytes(), alphabet.complement_ids(own)[::-1].tobytes())
        first, where = seen.setdefault(either, (row, split))
        if where != split:
            leaks.append((first, row))
    if leaks:
        first, second = leaks[0]
        warnings.warn(
            f"{path}: {len(leaks)} sequences, or their reverse complements, are also in another split; the first is "
            f"row {second + 1}, which repeats row {first + 1}.",
            LeakWarning,
            stacklevel=3,
        )

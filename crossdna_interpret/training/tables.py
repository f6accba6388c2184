"""Measured sequences from a table.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crossdna_interpret import alphabet, strand
from crossdna_interpret.training.packed import Packed, packed

__all__ = ["Batch", "LeakWarning", "Table", "read_table"]

_PIECE = 256  # rows read at once
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
        ids = self.ids[at] if isinstance(self.ids, Packed) else [self.ids[i] for i in at]
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

    It may be larger than the memory: sequences go into a temporary file, from which batches are read, and only numbers
    are kept, some 20 bytes a row.

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
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in (*targets, *([] if weight is None else [weight]))}
    texts = {name: _Codes() for name in (covariate, split) if name is not None}

    def encoded() -> Iterator[list[np.ndarray]]:
        for piece in _pieces(path, wanted):
            for name, values in numbers.items():
                values.append(_numbers(path, piece[name], least=0 if name == weight else -np.inf))
            for name, codes in texts.items():
                codes.add(path, piece[name])
            yield [
                alphabet.encode(alphabet.normalize(seq, name=f"{path}, row {row}")).astype(np.uint8)
                for row, seq in piece[sequence].items()
            ]

    ids = packed(encoded())
    measured = np.stack([np.concatenate(numbers[name]) for name in targets], axis=1)
    weights = np.ones(len(ids), dtype=np.float32) if weight is None else np.concatenate(numbers[weight])
    levels, level = ([""], np.zeros(len(ids), dtype=np.int64)) if covariate is None else texts[covariate].in_order()
    whole = Table(ids, measured, weights, level, tuple(targets), tuple(levels))
    if split is None:
        return {"train": whole}
    of_row = np.concatenate(texts[split].codes)
    _warn_of_leaks(path, ids, of_row)
    return {name: whole.rows(np.flatnonzero(of_row == code)) for name, code in texts[split].known.items()}


def _pieces(path: Path, wanted: list[str]) -> Iterator[pd.DataFrame]:
    """The wanted columns as they are written, some rows at a time; the index is the number of the row, from 1 on."""
    how: dict[str, Any] = {"sep": "\t", "dtype": str, "keep_default_na": False}
    try:
        there = list(pd.read_csv(path, nrows=0, **how).columns)
        missing = [column for column in wanted if column not in there]
        if missing:
            raise ValueError(f"{path} lacks the columns {missing}; it has {there}.")
        with pd.read_csv(path, chunksize=_PIECE, usecols=list(dict.fromkeys(wanted)), **how) as pieces:
            for piece in pieces:
                if piece.empty:
                    raise ValueError(f"{path} has no rows.")
                piece.index += 1
                yield piece.fillna("")  # what a row lacks that ends early
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read as tab-separated values: {error}") from error


def _numbers(path: Path, column: pd.Series, least: float) -> np.ndarray:
    """float32."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    for bad, expected in ((~np.isfinite(values), "a finite number"), (values < least, f"at least {least:g}")):
        if bad.any():
            row = column.index[int(bad.argmax())]
            raise ValueError(f"{path}, row {row}: {column.name} must be {expected}, but is {column[row]!r}.")
    return values.astype(np.float32)


class _Codes:
    """Numbers for the texts of a column, in the order in which they come."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.codes: list[np.ndarray] = []

    def add(self, path: Path, column: pd.Series) -> None:
        empty = (column == "").to_numpy()
        if empty.any():
            raise ValueError(f"{path}, row {column.index[int(empty.argmax())]}: {column.name} is empty.")
        codes, names = pd.factorize(column)
        self.codes.append(np.array([self.known.setdefault(name, len(self.known)) for name in names])[codes])

    def in_order(self) -> tuple[list[str], np.ndarray]:
        """The texts in the order of the alphabet, and of each row the number of its own."""
        names = sorted(self.known)
        number = np.array([names.index(name) for name in self.known], dtype=np.int64)
        return names, number[np.concatenate(self.codes)]


def _warn_of_leaks(path: Path, ids: Packed, splits: np.ndarray) -> None:
    # 64 bits of a hash are enough to tell sequences apart, and take no memory to speak of.
    either = [hash(min(own.tobytes(), strand.reverse_complement_ids(own).tobytes())) for own in ids]
    _, first, which = np.unique(either, return_index=True, return_inverse=True)
    leaks = np.flatnonzero(splits != splits[first[which]])
    if leaks.size:
        warnings.warn(
            f"{path}: {leaks.size} sequences, or their reverse complements, are also in another split; the first is "
            f"row {leaks[0] + 1}, which repeats row {first[which[leaks[0]]] + 1}.",
            LeakWarning,
            stacklevel=3,
        )

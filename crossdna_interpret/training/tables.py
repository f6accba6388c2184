"""Measured sequences from a table.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.training.packed import Packed, packed
from crossdna_interpret.training.tsv import read_pieces

__all__ = ["PADDING", "Batch", "LeakWarning", "Table", "Task", "read_table"]

PADDING = 255  # id after the end of a sequence, if the batch has longer ones
_PIECE = 256  # rows in one read
# Missing values as written by R and pandas. "NA" and "NaN" could otherwise be read as bases.
_MISSING = {"na", "nan", "n/a", "<na>", "null", "none"}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
Task = Literal["regression", "classification"]


class LeakWarning(UserWarning):
    """A sequence, or its reverse complement, is in more than one split."""


@dataclass(frozen=True, eq=False)
class Table:
    """Sequences and their measurements.

    Attributes:
        ids: N arrays (L,) uint8 of any length.
        targets: (N, T) float32.
        weight: (N,) float32, weight of each row.
        level: (N,) int64, index of the covariate's level.
        target_names: T names.
        levels: names of the covariate's levels. Without a covariate, one empty name.
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
        """(N,) length of each sequence in bases."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def rows(self, index: Sequence[int] | np.ndarray) -> Table:
        """A table of the rows in `index`, in this order."""
        at = np.asarray(index, dtype=np.int64)
        ids = self.ids[at] if isinstance(self.ids, Packed) else [self.ids[i] for i in at]
        return Table(ids, self.targets[at], self.weight[at], self.level[at], self.target_names, self.levels)

    def level_offsets(self) -> np.ndarray:
        """(levels, T) float32: mean of each level minus the mean of all rows. Zero for a level without rows."""
        overall = self.targets.mean(0)
        offsets = np.zeros((len(self.levels), len(self.target_names)), dtype=np.float32)
        for level in np.unique(self.level):
            offsets[level] = self.targets[self.level == level].mean(0) - overall
        return offsets

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """Rows as tensors: ids (n, L), targets (n, T), weight (n,), level (n,).

        L is the largest length. Shorter rows end with `PADDING`. This is not a base, so a model must not see it.
        """
        at = np.asarray(index, dtype=np.int64)
        rows = [self.ids[i] for i in at]
        ids = np.full((len(rows), max(map(len, rows))), PADDING, dtype=np.uint8)
        for padded, row in zip(ids, rows, strict=True):
            padded[: len(row)] = row
        columns = self.targets[at], self.weight[at], self.level[at]
        targets, weight, level = map(torch.from_numpy, columns)
        return torch.from_numpy(ids), targets, weight, level

    def content_hash(self) -> str:
        """SHA-256 of the full content of the table, hexadecimal. It detects changed files."""
        content = hashlib.sha256(repr((len(self), self.target_names, self.levels)).encode())
        for ids in self.ids:
            content.update(len(ids).to_bytes(8, "little") + ids.astype(np.uint8).tobytes())
        for column in (self.targets, self.weight, self.level):
            content.update(column.tobytes())
        return content.hexdigest()


def read_table(
    path: str | Path,
    *,
    targets: Sequence[str],
    sequence: str = "sequence",
    covariate: str | None = None,
    weight: str | None = None,
    split: str | None = None,
    task: Task = "regression",
) -> dict[str, Table]:
    """Read a table of tab-separated values, plain or gzipped, with a header.

    The table may be larger than the memory: sequences are stored in a temporary file, from which batches are read. Only
    numbers are kept in memory, about 20 bytes for each row.

    Args:
        path: the file.
        targets: columns to predict, with finite numbers.
        sequence: column with DNA of any length, in upper or lower case. N is allowed.
        covariate: column whose levels each get an offset, such as the library of a measurement.
        weight: column with row weights, numbers of at least 0.
        split: column with the split of each row.
        task: "classification" for targets that are labels or probabilities, from 0 to 1.

    Returns:
        A table for each split, in the order of the file. Without a split column, one table under "train".

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no rows, rows that do not fit the header, a missing or repeated column, or an invalid value. The
            message has the column and the first such row (1-based, without the header and blank lines).

    Warns:
        LeakWarning: a sequence or its reverse complement is in two splits.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a table, but there is no file {path}.")
    if isinstance(targets, str) or not targets:
        raise ValueError(f"`targets` must be a list of at least one column, but got {targets!r}.")
    if len(set(targets)) < len(targets):
        raise ValueError(f"`targets` must be different columns, but got {list(targets)}.")
    wanted = [sequence, *targets, *(name for name in (covariate, weight, split) if name is not None)]
    limits = dict.fromkeys(targets, (0.0, 1.0) if task == "classification" else (-np.inf, np.inf))
    if weight is not None:
        limits[weight] = (0.0, limits.get(weight, (0.0, np.inf))[1])
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in limits}
    texts = {name: _Codes() for name in (covariate, split) if name is not None}

    def encoded() -> Iterator[list[np.ndarray]]:
        for piece in read_pieces(path, wanted, _PIECE):
            where = _Where(path, piece.first)
            for name, values in numbers.items():
                values.append(_numbers(where, name, piece.columns[name], *limits[name]))
            for name, codes in texts.items():
                codes.add(where, name, piece.columns[name])
            yield [_ids(where.row(at), sequence, text) for at, text in enumerate(piece.columns[sequence])]
            if piece.problem is not None:
                raise ValueError(piece.problem)

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


@dataclass(frozen=True)
class _Where:
    """Names the rows of a piece in errors."""

    path: Path
    first: int

    def row(self, at: int) -> str:
        return f"{self.path}, row {self.first + at}"


def _ids(row: str, column: str, text: str) -> np.ndarray:
    if text.strip().lower() in _MISSING:
        raise ValueError(f"{row}: {column} must be a DNA sequence, but is {text!r}, a missing value.")
    return alphabet.encode(alphabet.normalize(text, name=row)).astype(np.uint8)


def _numbers(where: _Where, name: str, column: list[str], least: float, most: float) -> np.ndarray:
    """float32."""
    values = pd.to_numeric(np.array(column, dtype=object), errors="coerce").astype(np.float64)
    within = f"from {least:g} to {most:g}" if most < np.inf else f"at least {least:g}"
    for bad, expected in (
        (~np.isfinite(values), "a finite number"),
        (np.abs(values) > _FLOAT32_MAX, f"within {_FLOAT32_MAX:.1e}, the range of float32"),
        ((values < least) | (values > most), within),
    ):
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"{where.row(at)}: {name} must be {expected}, but is {column[at]!r}.")
    return values.astype(np.float32)


class _Codes:
    """Integer codes for the texts of a column, in order of appearance."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.codes: list[np.ndarray] = []

    def add(self, where: _Where, name: str, column: list[str]) -> None:
        if "" in column:
            raise ValueError(f"{where.row(column.index(''))}: {name} is empty.")
        codes, names = pd.factorize(np.array(column, dtype=object))
        self.codes.append(np.array([self.known.setdefault(name, len(self.known)) for name in names])[codes])

    def in_order(self) -> tuple[list[str], np.ndarray]:
        """The texts in alphabetical order, and the index of each row's text."""
        names = sorted(self.known)
        number = np.array([names.index(name) for name in self.known], dtype=np.int64)
        return names, number[np.concatenate(self.codes)]


def _warn_of_leaks(path: Path, ids: Packed, splits: np.ndarray) -> None:
    # A 64-bit hash is enough to distinguish sequences and needs little memory.
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

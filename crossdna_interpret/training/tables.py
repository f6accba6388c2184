"""Measured sequences from a table, and batches of them that depend on the seed and the step alone.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from crossdna_interpret import alphabet

__all__ = ["Batch", "Batches", "LeakWarning", "Table", "read_table"]

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

    def rows(self, index: Sequence[int] | np.ndarray) -> Table:
        """Some of the rows, in the order given."""
        at = np.asarray(index, dtype=np.int64)
        ids = [self.ids[i] for i in at]
        return Table(ids, self.targets[at], self.weight[at], self.level[at], self.target_names, self.levels)

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """Rows of equal length as tensors: ids (n, L), targets (n, T), weight (n,), level (n,)."""
        at = np.asarray(index, dtype=np.int64)
        columns = np.stack([self.ids[i] for i in at]), self.targets[at], self.weight[at], self.level[at]
        ids, targets, weight, level = map(torch.from_numpy, columns)
        return ids, targets, weight, level


class Batches(IterableDataset[Batch]):
    """Batches of a table, the n-th of which depends on the seed and n alone.

    So a run that was stopped after n steps goes on with the batches that it would have seen. Rows in a batch are of one
    length. In each pass all rows are shown but for those that do not fill a batch of their length.

    Args:
        table: the rows.
        size: rows of a batch.
        seed: of the order; None for the order of the table, in which no row is left out.
        first: number of the batch to start with.
        share: (number of this process, number of processes) that take turns; each gets as many batches.
    """

    def __init__(
        self, table: Table, size: int, *, seed: int | None, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, but got {size}.")
        self.table, self.size, self.seed, self.first, self.share = table, size, seed, first, share
        lengths = np.array([len(ids) for ids in table.ids])
        self._by_length = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        if seed is not None and not len(self):
            raise ValueError(
                f"`size` is {size}, but the table has no {size * share[1]} rows of one length, which one step takes."
            )

    def __len__(self) -> int:
        """Batches that this process has in one pass."""
        if self.seed is None:
            return len(self.order(0)[self.share[0] :: self.share[1]])
        return sum(len(rows) // self.size for rows in self._by_length) // self.share[1]

    def order(self, epoch: int) -> list[np.ndarray]:
        """Rows of each batch of a pass."""
        if self.seed is None:
            return [rows[i : i + self.size] for rows in self._by_length for i in range(0, len(rows), self.size)]
        random = np.random.default_rng([self.seed, epoch])
        batches = []
        for rows in self._by_length:
            mixed = random.permutation(rows)
            batches += [mixed[i : i + self.size] for i in range(0, len(mixed) - self.size + 1, self.size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the pass that `first` lies in."""
        own, processes = self.share
        epoch, begin = divmod(self.first, len(self)) if len(self) else (0, 0)
        for rows in self.order(epoch)[own::processes][begin : len(self)]:
            yield self.table.batch(rows)


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

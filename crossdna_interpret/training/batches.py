"""Batches that depend on the seed and the step alone, of rows that are of one length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from torch.utils.data import IterableDataset

__all__ = ["Batches", "Rows"]


class Rows(Protocol):
    """What batches are made of: a table of measurements, or windows of a genome."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) bases of each row."""
        ...

    def batch(self, index: np.ndarray) -> Any:
        """Rows of equal length, as a module's training step takes them."""
        ...


class Batches(IterableDataset[Any]):
    """Batches of rows, the n-th of which depends on the seed and n alone.

    So a run that was stopped after n steps goes on with the batches that it would have seen. Rows in a batch are of one
    length. In each pass all rows are shown but for those that do not fill a batch of their length.

    Args:
        rows: what there is; each batch is what its `batch` gives.
        size: rows of a batch.
        seed: of the order; None for their own order, in which no row is left out.
        first: number of the batch to start with.
        share: (number of this process, number of processes) that take turns; each gets as many batches.
    """

    def __init__(
        self, rows: Rows, size: int, *, seed: int | None, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, but got {size}.")
        self.rows, self.size, self.seed, self.first, self.share = rows, size, seed, first, share
        lengths = rows.lengths
        self._by_length = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        if seed is not None and not len(self):
            raise ValueError(
                f"`size` is {size}, but there are no {size * share[1]} rows of one length, which one step takes."
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

    def __iter__(self) -> Iterator[Any]:
        """The rest of the pass that `first` lies in."""
        own, processes = self.share
        epoch, begin = divmod(self.first, len(self)) if len(self) else (0, 0)
        for rows in self.order(epoch)[own::processes][begin : len(self)]:
            yield self.rows.batch(rows)

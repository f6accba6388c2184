"""Reproducible batches of rows of similar length."""

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

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray) -> Any:
        """Rows as a module's training step takes them."""
        ...

    def content_hash(self) -> str:
        """A hash of everything that the rows hold."""
        ...


class Batches(IterableDataset[Any]):
    """Batches of rows, the n-th of which depends on the seed and n alone.

    So a run that was stopped after n steps continues with the batches that it would have seen. Every pass shows every
    row. Rows of one length stand together, and the batches of a pass differ in size by one row at most, so that none is
    too small to learn from. Where several processes take turns and the batches do not divide evenly, the last processes
    repeat the first batches of the pass.

    Args:
        rows: what there is; each batch is what its `batch` gives.
        size: rows of a batch at most.
        seed: of the order; None for their own order, in batches of one length each.
        first: number of the batch to start with.
        share: (number of this process, number of processes) that take turns. With a seed each gets as many batches.

    Raises:
        ValueError: a size below 1, or no rows.
    """

    def __init__(
        self, rows: Rows, size: int, *, seed: int | None, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, but got {size}.")
        if not len(rows):
            raise ValueError("`rows` must hold at least one row.")
        self.rows, self.size, self.seed, self.first, self.share = rows, size, seed, first, share
        self._lengths = rows.lengths

    def __len__(self) -> int:
        """Batches that this process has in one pass."""
        own, processes = self.share
        if self.seed is None:
            return len(self.order(0)[own::processes])
        return -(-self._batches // processes)

    @property
    def _batches(self) -> int:
        """Batches of a pass of all processes, with a seed."""
        return -(-len(self.rows) // self.size)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Rows of each batch of a pass."""
        if self.seed is None:
            by_length = [np.flatnonzero(self._lengths == length) for length in np.unique(self._lengths)]
            return [rows[i : i + self.size] for rows in by_length for i in range(0, len(rows), self.size)]
        random = np.random.default_rng([self.seed, epoch])
        mixed = random.permutation(len(self.rows))
        mixed = mixed[np.argsort(self._lengths[mixed], kind="stable")]
        batches = np.array_split(mixed, self._batches)
        return [batches[i] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[Any]:
        """The rest of the pass that `first` lies in."""
        own, processes = self.share
        epoch, begin = divmod(self.first, max(1, len(self)))
        order = self.order(epoch)
        if self.seed is None:
            turns = order[own::processes]
        else:
            turns = [order[at % len(order)] for at in range(own, len(self) * processes, processes)]
        for rows in turns[begin:]:
            yield self.rows.batch(rows)

"""Reproducible batches of rows of similar length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from torch.utils.data import IterableDataset

__all__ = ["Batches", "Rows"]


class Rows(Protocol):
    """Source of batches: a table of measurements, or windows of a genome."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) length of each row in bases."""
        ...

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray) -> Any:
        """Rows in the format of a module's training step."""
        ...

    def content_hash(self) -> str:
        """Hash of the full content."""
        ...


class Batches(IterableDataset[Any]):
    """Batches of rows. The n-th batch depends only on the seed and n.

    So a run that was stopped after n steps continues with the same batches as without a stop. Every epoch uses every
    row. Rows of similar length are in one batch. The batches of an epoch differ in size by at most one row, so that
    none is too small to learn from. Several processes take batches in turn. If the number of batches is not divisible,
    the last processes repeat the first batches of the epoch.

    Args:
        rows: the rows. A batch is the result of `rows.batch`.
        size: largest number of rows in a batch.
        seed: seed of the order. With None, rows keep their order, in batches of one length each.
        first: index of the first batch.
        share: (index of this process, number of processes). With a seed, each process gets the same number of batches.

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
        """Batches of this process in one epoch."""
        own, processes = self.share
        if self.seed is None:
            return len(self.order(0)[own::processes])
        return -(-self._batches // processes)

    @property
    def _batches(self) -> int:
        """Batches of all processes in one epoch, with a seed."""
        return -(-len(self.rows) // self.size)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Rows of each batch of an epoch."""
        if self.seed is None:
            by_length = [np.flatnonzero(self._lengths == length) for length in np.unique(self._lengths)]
            return [rows[i : i + self.size] for rows in by_length for i in range(0, len(rows), self.size)]
        random = np.random.default_rng([self.seed, epoch])
        mixed = random.permutation(len(self.rows))
        mixed = mixed[np.argsort(self._lengths[mixed], kind="stable")]
        batches = np.array_split(mixed, self._batches)
        return [batches[i] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch that contains `first`."""
        own, processes = self.share
        epoch, begin = divmod(self.first, max(1, len(self)))
        order = self.order(epoch)
        if self.seed is None:
            turns = order[own::processes]
        else:
            turns = [order[at % len(order)] for at in range(own, len(self) * processes, processes)]
        for rows in turns[begin:]:
            yield self.rows.batch(rows)
